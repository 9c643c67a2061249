package identity

import (
	"strings"
	"testing"
)

func TestHeaderIsReadBack(t *testing.T) {
	want := Peer{Cluster: "c1", Namespace: "shop;a=b", Workload: "reviews-v2", Service: "reviews", Version: "v2", Instance: "reviews-v2-0 ü"}
	var c Cache
	for range 2 { // parsed, then remembered
		if got, ok := c.Parse(want.Header()); !ok || got != want {
			t.Errorf("Parse(Header()) = %+v, %v; want %+v", got, ok, want)
		}
	}
}

func TestHeaderNeverCarriesThePrincipal(t *testing.T) {
	p := Peer{Workload: "w", Principal: "spiffe://cluster.local/ns/a/sa/b"}
	var c Cache
	if got, _ := c.Parse(p.Header()); got.Principal != "" {
		t.Errorf("principal %q came through a header anybody can send", got.Principal)
	}
}

func TestParseRefuses(t *testing.T) {
	var c Cache
	for _, bad := range []string{"", "w=", "c=x;n=y", "w=%zz", "w=%ff", "w=" + strings.Repeat("a", maxHeaderBytes)} {
		if p, ok := c.Parse(bad); ok {
			t.Errorf("Parse(%.40q) = %+v, want refusal", bad, p)
		}
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
