// Package meter rewrites a WebAssembly module so that its use of CPU and stack is bounded by the module's own code.
//
// Generated code is not preemptible: a guest that loops would hold up Go's garbage collector, and with it the broker,
// until it returned. The engine's own cancellation makes guests 2 to 15 times slower. So Module.Rewrite inserts two
// counters as globals and code that counts them down:
//
//   - fuel (exported as FuelName), about one unit an instruction. It is charged at the start of a function, at each loop
//     head and, in large functions, where branches join; the sum of a stretch of code is charged before it runs.
//     Instructions whose work depends on an operand (memory.fill, table.copy, memory.grow …) are charged by it.
//   - stack (exported as StackName), an estimate in bytes of the native stack, only in functions that may recurse.
//
// When either falls below zero at a function's start or a loop's head, the import RefillModule.RefillName is called. The
// host then grants more, lets other goroutines run, or ends the guest by a panic.
//
// Parse reads the binary far enough to know its imports, exports and limits, so that a host can say what is wrong with
// an upload before it is compiled. Both reject what they do not know: core 2.0 (SIMD, bulk memory, reference types,
// multi-value, sign extension) passes, threads, tail calls, exceptions, several memories and 64-bit memories do not. A
// module that passes is not thereby valid: types are checked by the compiler. What matters is that the rewritten module
// cannot reach the counters, so every index is checked against the module's own.
//
// The rewritten module has a function import more than the original, behind its other imports; the indices of functions
// move up by one. Custom sections are dropped but for the names of the module and its functions, which stack traces
// show.
package meter
