// Package asm assembles small WebAssembly modules from Go code. It is what the built-in example plugins, the engine's
// calibration and many tests are made of, so that the repository holds no opaque binaries and needs no other toolchain.
//
// A module is put together with a Module; code is a byte slice that is joined from the functions of this package, which
// are named after the instructions of the text format:
//
//	m := asm.New()
//	add := m.Func(asm.Sig(asm.I32, asm.I32).To(asm.I32), nil,
//		asm.LocalGet(0), asm.LocalGet(1), asm.I32Add)
//	m.ExportFunc("add", add)
//	wasm := m.Bytes()
//
// Nothing is checked: what does not validate is refused by the compiler. Imports come before the first function.
// Redpanda lays the frame of a transform around the code for one record.
package asm
