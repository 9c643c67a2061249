package capture

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

var (
	pod = Rules{InboundPort: 15006, OutboundPort: 15001, ExcludeUIDs: []uint32{DefaultUID}, IPv6: true}
	all = Rules{
		InboundPort: 15006, OutboundPort: 15001, ExcludeUIDs: []uint32{1337, 0, 1337},
		ExcludeInboundPorts: []uint16{22, 15090}, ExcludeOutboundPorts: []uint16{53, 22},
		ExcludeCIDRs: prefixes("10.1.2.3/16", "10.1.9.0/24", "fd00:1::/64"), IncludeCIDRs: prefixes("10.0.0.0/8", "fd00::/8"), IPv6: true,
	}
	outbound = Rules{OutboundPort: 15001, ExcludeUIDs: []uint32{DefaultUID}, IncludeCIDRs: prefixes("240.0.0.0/4")}
)

func TestRulesAsTheyAreWritten(t *testing.T) {
	for name, r := range map[string]Rules{"pod": pod, "all": all, "outbound": outbound} {
		for _, b := range []Backend{NFTables, IPTables} {
			w := &Writer{Backend: b}
			golden(t, name+"."+string(b), w.Script(&r))
		}
	}
	golden(t, "again.iptables", pod.IPTables(false, map[string]bool{outputHook.chain: true, inboundHook.chain: true}))
	golden(t, "removal.iptables", iptablesRemoval(map[string]bool{outputHook.chain: true}))
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s (go test -update rewrites it)\n got:\n%s\nwant:\n%s", file, got, want)
	}
}

func TestWrongRulesAreNamed(t *testing.T) {
	for want, r := range map[string]Rules{
		"nothing to capture": {},
		"are both 1":         {InboundPort: 1, OutboundPort: 1, ExcludeUIDs: []uint32{1}},
		"invalid CIDR":       {InboundPort: 1, ExcludeCIDRs: make([]netip.Prefix, 1)},
	} {
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", r, err, want)
		}
	}
	if err := pod.Validate(); err != nil {
		t.Error(err)
	}
	if _, err := NewWriter("pf"); err == nil {
		t.Error("an unknown backend is accepted")
	}
}

func TestIsSelf(t *testing.T) {
	at := netip.MustParseAddrPort
	for _, tc := range []struct {
		to, listener string
		want         bool
	}{
		{"127.0.0.1:15001", "127.0.0.1:15001", true},
		{"127.0.0.1:15002", "127.0.0.1:15001", false},
		{"10.0.0.1:15001", "127.0.0.1:15001", false},
		{"[::ffff:127.0.0.1]:15001", "127.0.0.1:15001", true},
		{"127.9.9.9:15006", "0.0.0.0:15006", true},
		{"[::1]:15006", "[::]:15006", true},
		{"203.0.113.7:15006", "[::]:15006", false},
		{"0.0.0.0:15001", "127.0.0.1:15001", true},
	} {
		if got := IsSelf(at(tc.to), at(tc.listener)); got != tc.want {
			t.Errorf("IsSelf(%s, %s) = %v", tc.to, tc.listener, got)
		}
	}
}

func TestVirtualAddresses(t *testing.T) {
	a := VirtualAddresses([]string{"reviews.default.svc.cluster.local", "ratings.default.svc.cluster.local", "ratings.default.svc.cluster.local"})
	b := VirtualAddresses([]string{"ratings.default.svc.cluster.local", "details.default.svc.cluster.local", "reviews.default.svc.cluster.local"})
	if len(a) != 2 || len(b) != 3 {
		t.Fatalf("%v, %v", a, b)
	}
	seen := make(map[netip.Addr]bool)
	for host, at := range b {
		if !VirtualNet.Contains(at) || seen[at] || a[host].IsValid() && a[host] != at {
			t.Errorf("%s is at %s and at %s", host, at, a[host])
		}
		seen[at] = true
	}
}
