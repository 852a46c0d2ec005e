//go:build !linux

package main

import "errors"

func stepBack() error { return errors.New("only Linux can have the devices step back: use --crowded") }

func fileSystem(string) string { return "unknown file system" }
