package proxy

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/telemesh/telemesh/internal/netns"
)

// newNamespace makes a network namespace with a loopback, which ends with the
// test, and returns its path.
func newNamespace(t *testing.T) string {
	t.Helper()
	opened := make(chan any, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			opened <- err
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			opened <- err
			return
		}
		opened <- f
	}()
	switch got := (<-opened).(type) {
	case error:
		t.Skip("no network namespaces here: ", got)
	case *os.File:
		t.Cleanup(func() { got.Close() })
		path := fmt.Sprintf("/proc/self/fd/%d", got.Fd())
		if err := netns.Do(path, raiseLoopback); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return ""
}

func raiseLoopback() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo)
}

// getInside sends a request from the namespace.
func getInside(t *testing.T, namespace, address, url string) (r *http.Response, err error) {
	t.Helper()
	var c net.Conn
	if err := netns.Do(namespace, func() (err error) {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		a, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			return err
		}
		if err := unix.Connect(s, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}); err != nil {
			unix.Close(s)
			return err
		}
		f := os.NewFile(uintptr(s), "connection")
		defer f.Close()
		c, err = net.FileConn(f)
		return err
	}); err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", url)
	return http.ReadResponse(bufio.NewReader(c), nil)
}

// The new process gets the listener that was opened in the workload's network,
// and does not mistake it for one in its own.
func TestUpgradeOfAListenerInAnotherNamespace(t *testing.T) {
	namespace := newNamespace(t)
	app := startApp(t, answer)
	config := Config{HandOver: filepath.Join(t.TempDir(), "hand-over"), OutboundNetns: namespace}
	old := runSidecar(t, config)
	next := runSidecar(t, config)
	old.wait()
	if next.OutboundAddress() != old.OutboundAddress() {
		t.Errorf("moved from %s to %s", old.OutboundAddress(), next.OutboundAddress())
	}
	if r, err := getInside(t, namespace, next.OutboundAddress(), app.URL); err != nil || r.StatusCode != 200 {
		t.Errorf("from inside: %v, %v", r, err)
	}
	config.OutboundNetns = ""
	last := runSidecar(t, config)
	next.wait()
	if r, err := getInside(t, namespace, next.OutboundAddress(), app.URL); err == nil {
		t.Errorf("the namespace that was left still answers %d", r.StatusCode)
	}
	if code := status(last.OutboundAddress(), app.URL); code != 200 {
		t.Errorf("from the own namespace: %d", code)
	}
}
