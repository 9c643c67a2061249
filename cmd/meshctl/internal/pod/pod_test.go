package pod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/netns"
	"github.com/telemesh/telemesh/proxy/capture"
)

// patience bounds a test that would otherwise hang; nothing is timed with it.
const patience = 20 * time.Second

func create(t *testing.T) *Pod {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: scripts/install-test-tools.sh installs it", program)
		}
	}
	p, err := Create(t.Context())
	if err != nil {
		if out, unable := exec.Command("ip", "netns", "add", prefix+"probe").CombinedOutput(); unable != nil {
			t.Skipf("no network namespaces here: %s", out)
		}
		exec.Command("ip", "netns", "del", prefix+"probe").Run()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// greet says what it is told to every connection.
func greet(t *testing.T, l net.Listener, text func(c net.Conn) string) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, text(c))
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

func heard(t *testing.T, address string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAPodsConnectionsComeToTheSidecar(t *testing.T) {
	p := create(t)
	if err := p.Capture(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := netns.Listen(p.Path(), "tcp", OutboundAddress)
	if err != nil {
		t.Fatal(err)
	}
	greet(t, l, func(c net.Conn) string {
		to, _ := capture.OriginalDestination(c.(*net.TCPConn))
		return to.String()
	})
	for _, to := range []string{"243.1.2.3:9080", "203.0.113.1:443", p.host.String() + ":1"} {
		if err := netns.Do(p.Path(), func() error {
			if got := heard(t, to); got != to {
				t.Errorf("the sidecar is told %s, want %s", got, to)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatIsNotCapturedIsRefusedAtOnce(t *testing.T) {
	p := create(t)
	if err := p.Capture(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := netns.Do(p.Path(), func() error {
		c, err := net.Dial("udp", "203.0.113.1:53")
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err = c.Read(make([]byte, 1))
		return err
	})
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("a datagram: %v, want that it is refused", err)
	}
}

func TestResolver(t *testing.T) {
	got := resolver("# comment\nnameserver 10.0.0.53\nsearch a.example  b.example\noptions edns0\n")
	if want := "nameserver 10.0.0.53\nsearch a.example b.example\n" + resolverOptions; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAProgramOnLoopbackIsReachedFromOutside(t *testing.T) {
	p := create(t)
	const port = 8080
	l, err := netns.Listen(p.Path(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	greet(t, l, func(net.Conn) string { return "hello" })
	if err := p.Expose(t.Context(), port); err != nil {
		t.Fatal(err)
	}
	if got := heard(t, fmt.Sprintf("%s:%d", p.Address, port)); got != "hello" {
		t.Errorf("got %q", got)
	}
}

func TestNamesResolveInThePod(t *testing.T) {
	p := create(t)
	sidecar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `[{"Name":"web","Namespace":"default","Host":"web.default.svc.cluster.local","Endpoints":null},{"Name":"db","Namespace":"data","Host":"db.data.svc.cluster.local"}]`)
	}))
	defer sidecar.Close()
	ctx, cancel := context.WithCancel(t.Context())
	first, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		p.FollowServices(ctx, strings.TrimPrefix(sidecar.URL, "http://"), "default", first)
	}()
	<-first
	cancel()
	<-done
	words := p.Command("cat", "/etc/hosts")
	b, err := exec.Command(words[0], words[1:]...).Output()
	if err != nil {
		t.Fatal(err)
	}
	at := capture.VirtualAddresses([]string{"web.default.svc.cluster.local", "db.data.svc.cluster.local"})
	want := fmt.Sprintf("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n%s db.data db.data.svc db.data.svc.cluster.local\n%s web.default web.default.svc web.default.svc.cluster.local web\n",
		at["db.data.svc.cluster.local"], at["web.default.svc.cluster.local"])
	if string(b) != want {
		t.Errorf("got:\n%s\nwant:\n%s", b, want)
	}
	// A file that shrinks leaves nothing behind.
	if err := p.WriteHosts("default", nil); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(p.etc(), "hosts")); string(b) != string(hosts("", nil)) {
		t.Errorf("got:\n%s", b)
	}
}

func TestWhatADeadMakerLeftIsSwept(t *testing.T) {
	alive := create(t)
	// Its maker is a process that has ended: this number was another's before.
	owner, err := ownerOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	pid, _, _ := strings.Cut(owner, "-")
	dead := &Pod{name: prefix + pid + "-1-" + fmt.Sprint(made.Add(1)), wire: fmt.Sprintf("tm%s-%d", pid, made.Load())}
	if dead.host, dead.Address, err = freePair(); err != nil {
		t.Fatal(err)
	}
	if err := dead.build(t.Context()); err != nil {
		t.Fatal(errors.Join(err, dead.Close()))
	}
	if err := Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dead.Path(), dead.etc()} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v, want that it is gone", path, err)
		}
	}
	for _, path := range []string{alive.Path(), alive.etc()} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if err := dead.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

func TestOnlyOurNamesAreOrphans(t *testing.T) {
	for _, name := range []string{"telemesh-", "telemesh-x", "telemesh-test-1-2", "telemesh-1-2", "telemesh-1-2-3-4", "telemesh--1-2", "blue"} {
		if orphaned(name) {
			t.Errorf("%s is swept", name)
		}
	}
	if !orphaned("telemesh-4194999-1-1") { // beyond the largest number of a process
		t.Error("a dead maker's is left")
	}
}

func TestFreePairs(t *testing.T) {
	var seen []string
	for range 50 {
		host, pod, err := freePair()
		if err != nil {
			t.Fatal(err)
		}
		if pod != host.Next() || !host.IsLinkLocalUnicast() || host.As4()[3]&3 != 1 || host.As4()[2] < 64 || host.As4()[2] > 127 {
			t.Errorf("%s and %s", host, pod)
		}
		seen = append(seen, host.String())
	}
	slices.Sort(seen)
	if len(slices.Compact(seen)) < 2 {
		t.Error("always the same")
	}
}
