// Package pod gives a program on this machine a network of its own, in which the
// kernel brings its connections to its sidecar (docs/adr/013-transparent-capture.md).
package pod

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/telemesh/telemesh/internal/netns"
	"github.com/telemesh/telemesh/proxy/capture"
)

// OutboundAddress is where the sidecar's outbound listener is, inside the pod.
const OutboundAddress = "127.0.0.1:15001"

const outboundPort = 15001

// Pod is a network namespace with a wire to this machine. Create makes it; Close
// takes it away.
type Pod struct {
	name string
	// Address is the pod's on its wire, from this machine.
	Address netip.Addr
	host    netip.Addr // this machine's on the wire
	wire    string
}

var made atomic.Int32

// Create makes a pod, after it has removed those whose makers are dead. It needs
// root, and ip and nft or iptables.
func Create(ctx context.Context) (*Pod, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a network namespace needs root: run it with sudo, or without --transparent")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, errors.New("ip is not installed: install iproute2")
	}
	if err := Sweep(ctx); err != nil {
		return nil, err
	}
	owner, err := ownerOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	number := made.Add(1)
	p := &Pod{name: fmt.Sprintf("%s%s-%d", prefix, owner, number), wire: fmt.Sprintf("tm%d-%d", os.Getpid(), number)}
	if p.host, p.Address, err = freePair(); err != nil {
		return nil, err
	}
	if err := p.build(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Pod) build(ctx context.Context) error {
	if err := os.MkdirAll(p.etc(), 0o755); err != nil {
		return err
	}
	if err := errors.Join(p.WriteHosts("", nil), p.writeResolver()); err != nil {
		return err
	}
	for _, line := range []string{
		"netns add " + p.name,
		"-n " + p.name + " link set lo up",
		"link add " + p.wire + " type veth peer name eth0 netns " + p.name,
		"addr add " + p.host.String() + "/30 dev " + p.wire,
		"link set " + p.wire + " up",
		"-n " + p.name + " addr add " + p.Address.String() + "/30 dev eth0",
		"-n " + p.name + " link set eth0 up",
		"-n " + p.name + " route add default via " + p.host.String(),
	} {
		if err := run(ctx, "", "ip", strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

// Path is the namespace's, for setns(2).
func (p *Pod) Path() string { return filepath.Join(netns.Dir, p.name) }

func (p *Pod) etc() string { return filepath.Join("/etc/netns", p.name) }

// Capture brings every TCP connection that leaves the pod to OutboundAddress.
// The sidecar connects from outside, so no user needs to be let through. What is
// not TCP is refused, because it would wait for answers in vain.
func (p *Pod) Capture(ctx context.Context) error {
	w, err := capture.NewWriter(capture.Auto, p.Command()...)
	if err != nil {
		return err
	}
	if err := w.Apply(ctx, &capture.Rules{OutboundPort: outboundPort}); err != nil {
		return err
	}
	if w.Backend == capture.NFTables {
		return p.run(ctx, "table inet telemesh_rest {\n\tchain output {\n\t\ttype filter hook output priority 0; policy accept;\n\t\toifname \"eth0\" meta l4proto != tcp reject\n\t}\n}\n", "nft", "-f", "-")
	}
	return p.run(ctx, "", "iptables", "-w", "-A", "OUTPUT", "-o", "eth0", "!", "-p", "tcp", "-j", "REJECT")
}

// Expose lets connections to Address and port reach a program that listens on
// the pod's 127.0.0.1, as many do.
func (p *Pod) Expose(ctx context.Context, port int) error {
	// Only this machine is on the other end of the wire.
	err := netns.Do(p.Path(), func() error {
		return os.WriteFile("/proc/sys/net/ipv4/conf/eth0/route_localnet", []byte("1"), 0)
	})
	if err != nil {
		return fmt.Errorf("let the wire reach loopback: %w", err)
	}
	rules := fmt.Sprintf("add table ip telemesh_pod\ndelete table ip telemesh_pod\ntable ip telemesh_pod {\n\tchain prerouting {\n\t\ttype nat hook prerouting priority -100; policy accept;\n\t\tiifname \"eth0\" tcp dport %d dnat to 127.0.0.1\n\t}\n}\n", port)
	if _, err := exec.LookPath("nft"); err == nil {
		return p.run(ctx, rules, "nft", "-f", "-")
	}
	return p.run(ctx, "", "iptables", "-w", "-t", "nat", "-A", "PREROUTING", "-i", "eth0", "-p", "tcp", "--dport", fmt.Sprint(port), "-j", "DNAT", "--to-destination", "127.0.0.1")
}

// Command is the words that run a program in the pod: put it behind them. Its
// hosts file is the pod's.
func (p *Pod) Command(program ...string) []string {
	return append([]string{"ip", "netns", "exec", p.name}, program...)
}

func (p *Pod) run(ctx context.Context, stdin, program string, args ...string) error {
	words := p.Command(append([]string{program}, args...)...)
	return run(ctx, stdin, words[0], words[1:]...)
}

// Close takes the namespace away, with the wire and the rules in it. A program
// that still runs in it keeps it, without its name, until it ends.
func (p *Pod) Close() error {
	return remove(context.Background(), p.name)
}

// remove takes a namespace away; it is no error if parts of it are gone.
func remove(ctx context.Context, name string) error {
	err := os.RemoveAll(filepath.Join("/etc/netns", name))
	if _, gone := os.Lstat(filepath.Join(netns.Dir, name)); gone == nil {
		err = errors.Join(err, run(ctx, "", "ip", "netns", "del", name))
	}
	return err
}

// freePair chooses two addresses of a network of four that this machine has not,
// out of the link-local ones (RFC 3927), which are never routed.
func freePair() (host, pod netip.Addr, err error) {
	used, err := net.InterfaceAddrs()
	if err != nil {
		return host, pod, fmt.Errorf("list addresses: %w", err)
	}
	for range 100 {
		n := rand.IntN(1 << 12)
		network := netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, byte(64 + n>>6), byte(n<<2) & 0xfc}), 30)
		taken := false
		for _, u := range used {
			if p, err := netip.ParsePrefix(u.String()); err == nil && p.Overlaps(network) {
				taken = true
			}
		}
		if !taken {
			host = network.Addr().Next()
			return host, host.Next(), nil
		}
	}
	return host, pod, errors.New("no free link-local addresses in 169.254.64.0/18")
}

func run(ctx context.Context, stdin, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
