// Package procstat reads what a process has used from /proc, for benchmarks and
// the soak.
package procstat

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of /proc's CPU times; Linux has had no other for user space.
const tick = 10 * time.Millisecond

// tree is a process and all below it.
func tree(pid int) []int {
	all := []int{pid}
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range children {
		text, _ := os.ReadFile(file)
		for _, child := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(child); err == nil {
				all = append(all, tree(n)...)
			}
		}
	}
	return all
}

// CPU is the CPU time of a process and its children, user and system.
func CPU(pid int) (time.Duration, error) {
	var sum time.Duration
	for _, p := range tree(pid) {
		if d, ok := schedstat(p); ok {
			sum += d
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		if err != nil {
			return 0, err
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, f := range fields[11:13] {
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(n) * tick
		}
	}
	return sum, nil
}

// schedstat is exact where the kernel keeps it: nanoseconds on CPU, by thread.
func schedstat(pid int) (sum time.Duration, ok bool) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, false
		}
		n, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			return 0, false
		}
		sum += time.Duration(n)
	}
	return sum, len(files) > 0
}

// RSS is the resident memory of a process and its children, in bytes.
func RSS(pid int) float64 {
	var sum float64
	for _, p := range tree(pid) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p))
		if f := strings.Fields(string(text)); len(f) > 1 {
			n, _ := strconv.ParseFloat(f[1], 64)
			sum += n * float64(os.Getpagesize())
		}
	}
	return sum
}
