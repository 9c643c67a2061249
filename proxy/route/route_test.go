package route

import (
	"net/netip"
	"testing"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
	"github.com/telemesh/telemesh/proxy/capture"
	"github.com/telemesh/telemesh/proxy/cluster"
	"github.com/telemesh/telemesh/proxy/exchange"
)

func services(endpoints ...*discoveryv1.Endpoint) []*discoveryv1.Service {
	return []*discoveryv1.Service{
		{Namespace: "default", Name: "reviews", Host: "reviews.default.svc.cluster.local", Port: 9080, Endpoints: endpoints},
		{Namespace: "other", Name: "ledger", Host: "ledger.other.svc.cluster.local"},
	}
}

func table(endpoints ...*discoveryv1.Endpoint) *Table {
	t := NewTable("default", "local", nil, nil)
	t.Set(services(endpoints...))
	return t
}

func TestLookupTakesEveryDNSSpelling(t *testing.T) {
	tab := table()
	for _, host := range []string{
		"reviews", "reviews:9080", "Reviews:9080", "reviews.default", "reviews.default.svc:9080",
		"reviews.default.svc.cluster.local", "reviews.default.svc.cluster.local.", "ledger.other",
	} {
		if _, ok := tab.Lookup(host); !ok {
			t.Errorf("Lookup(%q) finds nothing", host)
		}
	}
	for _, host := range []string{"ledger", "review", "", ":", ".", "example.com:80", "reviews.other", "::1", "[::1]:80", string(make([]byte, 300))} {
		if c, ok := tab.Lookup(host); ok {
			t.Errorf("Lookup(%q) = %s, want nothing", host, c.Host)
		}
	}
}

func TestAServiceIsFoundByItsVirtualAddress(t *testing.T) {
	tab := table()
	at := capture.VirtualAddresses([]string{"reviews.default.svc.cluster.local", "ledger.other.svc.cluster.local"})
	for host, a := range at {
		for _, a := range []netip.Addr{a, netip.AddrFrom16(a.As16())} {
			if s, ok := tab.ByAddress(a); !ok || s.Host != host {
				t.Errorf("ByAddress(%s) = %v, want %s", a, s, host)
			}
		}
	}
	free := at["reviews.default.svc.cluster.local"].Next()
	for _, a := range []netip.Addr{{}, free, netip.IPv6Unspecified(), netip.MustParseAddr("127.0.0.1")} {
		if s, ok := tab.ByAddress(a); ok {
			t.Errorf("ByAddress(%s) = %s, want nothing", a, s.Host)
		}
	}
	if s, ok := NewTable("default", "local", nil, nil).ByAddress(free); ok {
		t.Errorf("an empty table has %s", s.Host)
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	tab := table()
	for _, host := range []string{"reviews", "Reviews:9080", "Reviews.Default.svc.cluster.local.:80", "example.com:80"} {
		if n := testing.AllocsPerRun(1000, func() { tab.Lookup(host) }); n != 0 {
			t.Errorf("Lookup(%q): %v allocations, want 0", host, n)
		}
	}
}

func TestSetKeepsWhatIsUnderWay(t *testing.T) {
	tab := table(&discoveryv1.Endpoint{Address: "127.0.0.1:1", Healthy: true})
	before, _ := tab.Lookup("reviews")
	e, err := before.Pick(cluster.Key{})
	if err != nil {
		t.Fatal(err)
	}
	tab.Set(services(&discoveryv1.Endpoint{Address: "127.0.0.1:1", Healthy: true, Version: "v2"}))
	after, _ := tab.Lookup("reviews")
	if got := after.Status().Endpoints[0]; after != before || got.InFlight != 1 || got.Version != "v2" {
		t.Errorf("after another Set: %+v, want the request in flight and the new version", got)
	}
	e.Done(exchange.Outcome{Status: 200})
	if got := after.Status().Endpoints[0].InFlight; got != 0 {
		t.Errorf("%d in flight after Done", got)
	}
}

func TestClustersAreListedOnceEach(t *testing.T) {
	got := table().Clusters()
	if len(got) != 2 || got[0].Name != "ledger" || got[1].Name != "reviews" {
		t.Errorf("Clusters() = %+v", got)
	}
}

func TestSettingsAreThoseOfTheHost(t *testing.T) {
	tab := NewTable("default", "local", map[string]cluster.Settings{"reviews.default.svc.cluster.local": {Balancer: cluster.Maglev}}, nil)
	tab.Set(services())
	got := tab.Clusters()
	if got[0].Balancer != "LEAST_REQUEST" || got[1].Balancer != "MAGLEV" {
		t.Errorf("balancers %s and %s", got[0].Balancer, got[1].Balancer)
	}
}

func BenchmarkLookup(b *testing.B) {
	tab := table()
	for b.Loop() {
		tab.Lookup("Reviews:9080")
	}
}
