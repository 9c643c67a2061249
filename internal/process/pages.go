package process

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// ForgetStartup gives back the pages of the program's own file: code and tables
// that only the start needed would stay resident for good. What is still in use
// comes back from the page cache at the first touch. It is a hint; where the
// system has no /proc, nothing happens.
func ForgetStartup() {
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
