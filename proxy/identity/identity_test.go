package identity

import (
	"strings"
	"testing"
)

func TestHeaderIsReadBack(t *testing.T) {
	want := Peer{Cluster: "c1", Namespace: "shop;a=b", Workload: "reviews-v2", Service: "reviews", Version: "v2", Instance: "reviews-v2-0 ü"}
	var c Cache
	for range 2 { // parsed, then remembered
		if got := c.Parse(want.Header()); got == nil || *got != want {
			t.Errorf("Parse(Header()) = %+v; want %+v", got, want)
		}
	}
}

func TestHeaderNeverCarriesThePrincipal(t *testing.T) {
	p := Peer{Workload: "w", Principal: "spiffe://cluster.local/ns/a/sa/b"}
	var c Cache
	if got := c.Parse(p.Header()); got.Principal != "" {
		t.Errorf("principal %q came through a header anybody can send", got.Principal)
	}
}

func TestParseRefuses(t *testing.T) {
	var c Cache
	for _, bad := range []string{"", "w=", "c=x;n=y", "w=%zz", "w=%ff", "w=" + strings.Repeat("a", maxHeaderBytes)} {
		if p := c.Parse(bad); p != nil {
			t.Errorf("Parse(%.40q) = %+v, want refusal", bad, p)
		}
	}
}

func TestTheSamePeerIsTheSamePointerAndCostsNoMemory(t *testing.T) {
	var c Cache
	header := Peer{Cluster: "c1", Namespace: "n", Workload: "w"}.Header()
	first := c.Parse(header)
	if n := testing.AllocsPerRun(1000, func() {
		if c.Parse(header) != first {
			t.Error("another pointer")
		}
	}); n != 0 {
		t.Errorf("%v allocations to read a known header, want 0", n)
	}
}

func TestCacheIsBounded(t *testing.T) {
	var c Cache
	for i := range 3 * maxCached {
		c.Parse(Peer{Workload: strings.Repeat("w", 1+i%7), Instance: strings.Repeat("i", i%900) + string(rune('a'+i%26))}.Header())
	}
	if len(c.peers) > maxCached {
		t.Errorf("%d peers remembered, want at most %d", len(c.peers), maxCached)
	}
}
