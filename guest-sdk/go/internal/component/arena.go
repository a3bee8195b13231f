//go:build wasip1

// Package component is the border between the Go heap and what the gateway reads and writes.
//
// While the gateway lowers data into a guest it calls cabi_realloc, and a guest that calls an
// import from there traps ("cannot leave component instance"). The Go allocator may start a
// collection, which reads clocks and polls timers, so cabi_realloc must not allocate. Here it
// moves a pointer in memory outside of the Go heap; everything is copied from there.
package component

import (
	"runtime"
	"unsafe"
)

const (
	arenaBytesMin = 256 << 10
	page          = 64 << 10
)

var (
	// From arenaBase to arenaEnd lies the arena; before arenaBase lies what the WASI adapter asked
	// for while the runtime started, and keeps.
	arenaBase, arenaNext, arenaEnd uintptr
	// Ends what the current export was given.
	arenaFloor uintptr
	// Imports whose results still lie in the arena; goroutines may overlap.
	importsInFlight int
)

func init() { arenaBase = arenaNext }

//go:linkname sbrk runtime.sbrk
func sbrk(bytes uintptr) unsafe.Pointer

//go:wasmexport cabi_realloc
//go:nosplit
func cabiRealloc(_ unsafe.Pointer, _, align, bytes uintptr) unsafe.Pointer {
	start := (arenaNext + align - 1) &^ (align - 1)
	if start+bytes > arenaEnd {
		size := max(2*(arenaEnd-arenaBase), bytes+arenaBytesMin)
		size = (size + page - 1) &^ (page - 1)
		start = uintptr(sbrk(size))
		if start == 0 {
			panic("beyond the memory limit") // Traps, as this cannot be logged from here.
		}
		arenaBase, arenaEnd = start, start+size
	}
	arenaNext = start + bytes
	return unsafe.Pointer(start)
}

// Enter comes first in an export. It yields, because an export that never blocks starves the
// collector's workers: the heap then grows to the limit.
func Enter() {
	arenaFloor = arenaNext
	forget()
	runtime.Gosched()
}

// Mark comes before an import that returns data, Release after its results were copied.
func Mark() { importsInFlight++ }

// Release gives back what the import left in the arena.
func Release() {
	importsInFlight--
	cut()
}

// Reset ends an export: it is all that a post-return does, which must not call an import either.
//
//go:nosplit
func Reset() {
	arenaFloor = arenaBase
	cut()
}

//go:nosplit
func cut() {
	if importsInFlight > 0 {
		return
	}
	if arenaFloor < arenaBase || arenaFloor > arenaEnd {
		arenaFloor = arenaBase // A larger arena was begun meanwhile.
	}
	arenaNext = arenaFloor
}
