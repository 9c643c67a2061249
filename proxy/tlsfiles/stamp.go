package tlsfiles

import (
	"os"
	"syscall"
)

// stamps are how the files look now. A missing one has a zero stamp.
func stamps(f Files) [3]stamp {
	var out [3]stamp
	for i, name := range []string{f.Cert, f.Key, f.CA} {
		if name == "" {
			continue
		}
		// Stat follows links: Kubernetes replaces a mounted secret by turning
		// one.
		info, err := os.Stat(name)
		if err != nil {
			continue
		}
		out[i] = stamp{modified: info.ModTime(), size: info.Size()}
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			out[i].inode = sys.Ino
		}
	}
	return out
}
