package process

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

const (
	leanEvery = 2 * time.Second
	// A round costs some milliseconds. There is one for every leanTicks, and some
	// ahead: a program that works now and then is left alone.
	leanTicks = 15
	leanAhead = 3
	// stillTicks without work are silence: by then the rest of the program has let
	// go of what it kept for more work.
	stillTicks = 3
)

// StayLean gives memory back whenever the program falls silent, until ctx ends:
// first after its start, then when work, which counts what it has done, stands
// still.
func StayLean(ctx context.Context, work func() uint64) {
	last, still, lean := work(), 0, false
	for credit := leanAhead * leanTicks; ; credit = min(credit+1, leanAhead*leanTicks) {
		select {
		case <-time.After(UntilBeat(leanEvery)):
		case <-ctx.Done():
			return
		}
		now := work()
		if now != last {
			last, still, lean = now, 0, false
			continue
		}
		if still++; still >= stillTicks && !lean && credit >= leanTicks {
			debug.FreeOSMemory()
			forgetText()
			lean = true
			credit -= leanTicks
		}
	}
}

// forgetText gives back the pages of the program's own file: code and tables that
// only the start or a burst needed would stay resident for good. What is still
// in use comes back from the page cache at the first touch. It is a hint; where
// the system has no /proc, nothing happens.
func forgetText() {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to uintptr
		var mode string
		line := lines.Text()
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasSuffix(line, " "+exe) {
			continue
		}
		// Written pages are the process's own and would be lost.
		if strings.HasPrefix(mode, "r-") {
			_, _, _ = syscall.RawSyscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED)
		}
	}
}
