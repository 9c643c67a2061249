package capture

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/netns"
)

// patience bounds a test that would otherwise hang; nothing is timed with it.
const patience = 20 * time.Second

var namespaces atomic.Int32

// command runs a program and returns its output.
func command(words ...string) (string, error) {
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, out)
	}
	return string(out), err
}

func run(t *testing.T, line string) string {
	t.Helper()
	out, err := command(strings.Fields(line)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// network is a pod and a host with a wire between them, each in a namespace of
// its own that ends with the test.
type network struct {
	t         *testing.T
	pod, host string
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, program := range []string{"ip", "nft", "iptables-restore", "ip6tables-restore"} {
		if !installed(program) {
			t.Skipf("%s is not installed: scripts/install-test-tools.sh installs it", program)
		}
	}
	name := func() string { return fmt.Sprintf("telemesh-test-%d-%d", os.Getpid(), namespaces.Add(1)) }
	n := &network{t: t, pod: name(), host: name()}
	for _, ns := range []string{n.pod, n.host} {
		if _, err := command("ip", "netns", "add", ns); err != nil {
			t.Skipf("no network namespaces here: %v", err)
		}
		t.Cleanup(func() { run(t, "ip netns del "+ns) })
		run(t, "ip -n "+ns+" link set lo up")
	}
	run(t, "ip -n "+n.pod+" link add wire type veth peer name wire netns "+n.host)
	for i, ns := range []string{n.pod, n.host} {
		run(t, fmt.Sprintf("ip -n %s addr add 10.99.0.%d/24 dev wire", ns, i+1))
		run(t, fmt.Sprintf("ip -n %s addr add fd00:99::%d/64 dev wire nodad", ns, i+1))
		run(t, "ip -n "+ns+" link set wire up")
	}
	run(t, "ip -n "+n.pod+" route add default via 10.99.0.2")
	run(t, "ip -n "+n.pod+" route add default via fd00:99::2")
	return n
}

func path(ns string) string { return filepath.Join(netns.Dir, ns) }

// listen tells for each connection where it was meant to go; the zero address
// if it was not redirected.
func (n *network) listen(ns, address string) (seen chan netip.AddrPort, at netip.AddrPort) {
	n.t.Helper()
	l, err := netns.Listen(path(ns), "tcp", address)
	if err != nil {
		n.t.Fatal(err)
	}
	seen = make(chan netip.AddrPort, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			to, _ := OriginalDestination(c.(*net.TCPConn))
			seen <- to
			c.Close()
		}
	}()
	n.t.Cleanup(func() { l.Close(); <-done })
	return seen, l.Addr().(*net.TCPAddr).AddrPort()
}

func (n *network) dial(ns, address string) error {
	return netns.Do(path(ns), func() error {
		c, err := net.DialTimeout("tcp", address, patience)
		if err == nil {
			c.Close()
		}
		return err
	})
}

// captured dials and expects that the listener learns the destination.
func (n *network) captured(ns, address string, seen chan netip.AddrPort) {
	n.t.Helper()
	if err := n.dial(ns, address); err != nil {
		n.t.Errorf("dial %s: %v", address, err)
		return
	}
	select {
	case got := <-seen:
		if got.String() != address {
			n.t.Errorf("the original destination is %s, want %s", got, address)
		}
	case <-time.After(patience):
		n.t.Errorf("%s is not captured", address)
	}
}

// direct dials where nobody listens: left alone, it is refused.
func (n *network) direct(ns, address string) {
	n.t.Helper()
	if err := n.dial(ns, address); !errors.Is(err, syscall.ECONNREFUSED) {
		n.t.Errorf("dial %s: %v, want that it is not captured and refused", address, err)
	}
}

func TestTheKernelRedirects(t *testing.T) {
	for _, backend := range []Backend{NFTables, IPTables} {
		t.Run(string(backend), func(t *testing.T) {
			n := newNetwork(t)
			w, err := NewWriter(backend, "ip", "netns", "exec", n.pod)
			if err != nil {
				t.Fatal(err)
			}
			outbound, _ := n.listen(n.pod, "127.0.0.1:15001")
			outbound6, _ := n.listen(n.pod, "[::1]:15001")
			inbound, _ := n.listen(n.pod, "[::]:15006")
			before := n.ruleset(backend)
			r := Rules{
				InboundPort: 15006, OutboundPort: 15001, ExcludeUIDs: []uint32{DefaultUID}, IPv6: true,
				ExcludeInboundPorts: []uint16{22}, ExcludeOutboundPorts: []uint16{25}, ExcludeCIDRs: prefixes("10.99.0.128/25"),
			}
			if err := w.Apply(t.Context(), &r); err != nil {
				t.Fatal(err)
			}
			n.captured(n.pod, "10.99.0.2:80", outbound)
			n.captured(n.pod, "203.0.113.9:8080", outbound) // through the default route
			n.captured(n.pod, "[fd00:99::2]:80", outbound6)
			n.captured(n.host, "10.99.0.1:8080", inbound)
			n.captured(n.host, "[fd00:99::1]:8080", inbound)
			n.direct(n.pod, "10.99.0.2:25")
			n.direct(n.pod, "10.99.0.1:80") // its own address
			n.direct(n.pod, "127.0.0.1:80")
			n.direct(n.host, "10.99.0.1:22")
			// The listeners' own address is not captured, and says so.
			if err := n.dial(n.pod, "127.0.0.1:15001"); err != nil {
				t.Error(err)
			} else if got := <-outbound; got.IsValid() {
				t.Errorf("an uncaptured connection was meant for %s", got)
			}

			once := n.ruleset(backend)
			if err := w.Apply(t.Context(), &r); err != nil {
				t.Fatal(err)
			}
			if again := n.ruleset(backend); again != once {
				t.Errorf("applied twice:\n%s\nonce:\n%s", again, once)
			}

			// Everything runs as root here, so root is now the sidecar.
			r.ExcludeUIDs, r.InboundPort, r.IPv6 = []uint32{0}, 0, false
			if err := w.Apply(t.Context(), &r); err != nil {
				t.Fatal(err)
			}
			n.direct(n.pod, "10.99.0.2:80")
			n.direct(n.host, "10.99.0.1:8080")
			n.direct(n.pod, "[fd00:99::2]:80")

			for range 2 {
				if err := w.Remove(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if after := n.ruleset(backend); after != before {
				t.Errorf("after the removal:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

// ruleset is what the pod's kernel has, as the backend prints it.
func (n *network) ruleset(b Backend) string {
	exec := "ip netns exec " + n.pod + " "
	if b == NFTables {
		return run(n.t, exec+"nft list ruleset")
	}
	var out strings.Builder
	for _, program := range []string{"iptables", "ip6tables"} {
		// -S makes the table if need be, so that it is there before too.
		out.WriteString(run(n.t, exec+program+" -t nat -S"))
	}
	return out.String()
}
