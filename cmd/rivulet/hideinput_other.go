//go:build !linux

package main

// hideInput does nothing here: the password is seen while it is typed.
func hideInput(any) (back func()) { return func() {} }
