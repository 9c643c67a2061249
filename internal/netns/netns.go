// Package netns runs code in another network namespace of the kernel.
package netns

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Dir is where ip-netns(8) keeps the names of namespaces.
const Dir = "/run/netns"

// Do runs f in the network namespace at path, on a thread of its own that is
// thrown away afterwards. Sockets that f opens stay in the namespace for life. f
// must open them itself: goroutines that it starts run elsewhere. It needs
// CAP_SYS_ADMIN.
func Do(path string, f func() error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer file.Close()
	done := make(chan error, 1)
	go func() {
		// Never unlocked, so that the thread ends with the goroutine and nothing
		// else ever runs in the namespace by accident.
		runtime.LockOSThread()
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace %s: %w", path, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Listen listens in the network namespace at path. The address is host:port with
// an IP address, since names are looked up elsewhere.
func Listen(path, network, address string) (l net.Listener, err error) {
	err = Do(path, func() (err error) {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}
