// Package memory decides how much memory the hub may use, and says how much it
// uses.
package memory

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// Least is the smallest limit that a hub can work with: its own parts take about
// half of it.
const Least = 64 << 20

// Limit is how much the Go runtime tries to stay below, and who said so. Bytes is
// 0 if nobody did.
type Limit struct {
	Bytes int64
	From  string // --memory-limit, GOMEMLIMIT or a cgroup's memory.max
}

// SetLimit sets the process's soft limit: what the flag says, if it is above 0, else
// what GOMEMLIMIT does, else nine tenths of the cgroup's memory.max, because not all
// that the kernel counts is the Go runtime's. It is for main. An error says that the
// cgroup could not be read; there is no limit then.
func SetLimit(flag int64) (Limit, error) {
	l, err := choose(flag, debug.SetMemoryLimit(-1), os.DirFS("/"))
	if err == nil && l.Bytes > 0 {
		debug.SetMemoryLimit(l.Bytes)
	}
	return l, err
}

// choose applies the rule; root is the file system.
func choose(flag, runtime int64, root fs.FS) (Limit, error) {
	switch {
	case flag > 0:
		return Limit{flag, "--memory-limit"}, nil
	case runtime < math.MaxInt64:
		return Limit{runtime, "GOMEMLIMIT"}, nil
	}
	l, err := cgroup(root)
	if l.Bytes > 0 {
		l.Bytes = max(l.Bytes/10*9, Least)
	}
	return l, err
}

// cgroup is the smallest memory.max (cgroup v2) from the process's own group up to
// the root. Without version 2 there is none.
func cgroup(root fs.FS) (Limit, error) {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if errors.Is(err, fs.ErrNotExist) {
		return Limit{}, nil
	}
	if err != nil {
		return Limit{}, fmt.Errorf("read the cgroup's memory limit: %w; say --memory-limit", err)
	}
	var least Limit
	for line := range strings.Lines(string(groups)) {
		own, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for at := path.Join("/", own); ; at = path.Dir(at) {
			name := path.Join("sys/fs/cgroup", at, "memory.max")
			b, err := fs.ReadFile(root, name)
			if n, bad := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && bad == nil && n > 0 && (least.Bytes == 0 || n < least.Bytes) {
				least = Limit{n, "/" + name}
			}
			if at == "/" {
				break
			}
		}
	}
	return least, nil
}
