package auth

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// longSlice is the longest that the kernel takes.
const longSlice = 100 * time.Millisecond

// giveWay has the calling goroutine, until back is called, run on a thread that makes way at once for every thread that has something to
// do. By default a thread that computes goes on for some 3 ms, until the next tick of the clock, before one that wakes up gets its
// processor. From Linux 6.12 on it loses it at once when its time slice is the longer one of the two; its share stays what it was, which
// a lower priority or a yield would take from it on a busy machine. Where the kernel knows no such slices, or forbids to set them, nothing changes.
func giveWay() (back func()) {
	runtime.LockOSThread()
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL && attr.Policy != unix.SCHED_BATCH {
		return runtime.UnlockOSThread
	}
	attr.Runtime = uint64(longSlice)
	_ = unix.SchedSetAttr(0, attr, 0)
	return func() {
		attr.Runtime = 0 // the kernel's own
		_ = unix.SchedSetAttr(0, attr, 0)
		runtime.UnlockOSThread()
	}
}
