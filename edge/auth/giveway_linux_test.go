package auth

import (
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHashGivesWay: what takes a processor for long runs with a long slice where the kernel knows slices, and the thread has its own again behind it.
func TestHashGivesWay(t *testing.T) {
	runtime.LockOSThread() // so that the thread is the same behind it
	defer runtime.UnlockOSThread()
	slice := func() uint64 {
		attr, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return attr.Runtime
	}
	before := slice()
	a := testAuthority(t)
	for range 2 {
		during := uint64(0)
		if err := a.Heavy(t.Context(), func() { during = slice() }); err != nil {
			t.Fatal(err)
		}
		want := before
		if knowsSlices(t) {
			want = uint64(longSlice)
		}
		if after := slice(); during != want || after != before {
			t.Errorf("slices of %d, then %d, then %d ns; want %d meanwhile", before, during, after, want)
		}
	}
}

func knowsSlices(t *testing.T) bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	parts := strings.SplitN(unix.ByteSliceToString(u.Release[:]), ".", 3)
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[1])
	return major > 6 || major == 6 && minor >= 12
}
