package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/telemesh/telemesh/internal/netns"
)

// prefix begins every name: PREFIX PID - START - NUMBER. The time at which its
// maker started tells it from a later process of the same number.
const prefix = "telemesh-"

// Sweep removes the pods whose makers are dead: a kill -9 leaves one behind.
func Sweep(ctx context.Context) error {
	// A maker that died early may have left only one of the two.
	names, _ := filepath.Glob(filepath.Join(netns.Dir, prefix+"*"))
	files, _ := filepath.Glob(filepath.Join("/etc/netns", prefix+"*"))
	var errs []error
	swept := make(map[string]bool)
	for _, path := range append(names, files...) {
		name := filepath.Base(path)
		if !swept[name] && orphaned(name) {
			swept[name] = true
			errs = append(errs, remove(ctx, name))
		}
	}
	return errors.Join(errs...)
}

// orphaned reports that a name is a pod's and its maker is dead. What does not
// look like one of our names is somebody else's.
func orphaned(name string) bool {
	parts := strings.Split(strings.TrimPrefix(name, prefix), "-")
	if len(parts) != 3 {
		return false
	}
	for _, part := range parts {
		if _, err := strconv.ParseUint(part, 10, 64); err != nil {
			return false
		}
	}
	pid, _ := strconv.Atoi(parts[0])
	owner, err := ownerOf(pid)
	return errors.Is(err, os.ErrNotExist) || err == nil && owner != parts[0]+"-"+parts[1]
}

// ownerOf names a process by its number and the time it started, field 22 of
// proc(5)'s stat.
func ownerOf(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The second field is the program's name, in brackets, and may hold any byte.
	after := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(after) < 20 {
		return "", fmt.Errorf("read start time of process %d: %d fields", pid, len(after))
	}
	return fmt.Sprintf("%d-%s", pid, after[19]), nil
}
