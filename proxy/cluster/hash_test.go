package cluster

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/telemesh/telemesh/proxy/exchange"
)

func members(addresses ...string) []member {
	var out []member
	for _, a := range addresses {
		h := &host{joined: never}
		out = append(out, member{first: &Endpoint{Address: a, host: h}, host: h, healthy: true, weight: 1})
	}
	return out
}

func ports(from, to int) []member {
	var addresses []string
	for p := from; p <= to; p++ {
		addresses = append(addresses, fmt.Sprintf("127.0.0.1:%d", p))
	}
	return members(addresses...)
}

// The positions are those that Envoy's ring_hash_lb_test states for the same
// six hosts.
func TestRingIsEnvoys(t *testing.T) {
	r := newRing(ports(90, 95), 12)
	want := []struct {
		hash uint64
		port int32
	}{
		{833437586790550860, 94}, {928266305478181108, 92}, {1033482794131418490, 90}, {3551244743356806947, 95},
		{3851675632748031481, 93}, {5583722120771150861, 91}, {6311230543546372928, 91}, {7700377290971790572, 93},
		{13144177310400110813, 95}, {13444792449719432967, 92}, {15516499411664133160, 94}, {16117243373044804889, 90},
	}
	if len(r.hashes) != len(want) {
		t.Fatalf("%d entries, want %d", len(r.hashes), len(want))
	}
	for i, w := range want {
		if r.hashes[i] != w.hash || r.owners[i]+90 != w.port {
			t.Errorf("entry %d is :%d at %d, want :%d at %d", i, r.owners[i]+90, r.hashes[i], w.port, w.hash)
		}
	}
	for _, tc := range []struct {
		hash    uint64
		attempt int
		port    int
	}{
		{0, 0, 94}, {math.MaxUint64, 0, 94}, {3551244743356806947, 0, 95}, {3551244743356806948, 0, 93},
		{3551244743356806948, 1, 91}, {3551244743356806948, 3, 93}, {math.MaxUint64, 12, 94},
	} {
		if got := r.index(tc.hash, tc.attempt) + 90; got != tc.port {
			t.Errorf("hash %d, attempt %d: :%d, want :%d", tc.hash, tc.attempt, got, tc.port)
		}
	}
}

func TestRingHasItsMinimumSize(t *testing.T) {
	for _, tc := range []struct{ hosts, minimum, want int }{
		{1, 0, 1024}, {3, 0, 1026}, {7, 0, 1029}, {3, 1, 3}, {1000, 0, 2000}, {2000, 0, 2000}, {4, 1 << 16, 1 << 16},
	} {
		if got := len(newRing(ports(1, tc.hosts), uint64(tc.minimum)).hashes); got != tc.want {
			t.Errorf("%d hosts, minimum %d: %d entries, want %d", tc.hosts, tc.minimum, got, tc.want)
		}
	}
}

// The assignments are those that Envoy's maglev_lb_test states.
func TestMaglevIsEnvoys(t *testing.T) {
	same := func(what string, got []int32, want ...int32) {
		t.Helper()
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: %v, want %v", what, got, want)
				return
			}
		}
	}
	m := newMaglev(ports(90, 95), 7)
	same("equal", m.owners, 2, 4, 0, 1, 5, 0, 3)
	for attempt, want := range []int{1, 0, 5} {
		if got := m.index(10, attempt); got != want {
			t.Errorf("attempt %d: %d, want %d", attempt, got, want)
		}
	}
	weighted := ports(90, 91)
	weighted[1].weight = 2
	same("weighted", newMaglev(weighted, 17).owners, 1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1)
}

// moved is how many of n keys changed their host though it stays.
func moved(before, after table, gone int, n int) (lost, strayed int) {
	for i := range n {
		key := uint64(i) * 0x9e3779b97f4a7c15
		was, is := before.index(key, 0), after.index(key, 0)
		if is >= gone {
			is++
		}
		switch {
		case was == gone:
			lost++
		case was != is:
			strayed++
		}
	}
	return lost, strayed
}

func TestRemovalMovesOnlyTheKeysOfTheRemoved(t *testing.T) {
	const n = 20_000
	all := ports(1, 10)
	without := append(append([]member{}, all[:3]...), all[4:]...)

	lost, strayed := moved(newRing(all, 10240), newRing(without, 9216), 3, n)
	if strayed != 0 {
		t.Errorf("ring: %d of %d keys of other hosts moved, want none", strayed, n)
	}
	if lost < n/20 || lost > n/5 {
		t.Errorf("ring: the removed host had %d of %d keys", lost, n)
	}
	// Maglev trades a little of it for an even spread.
	lost, strayed = moved(newMaglev(all, 0), newMaglev(without, 0), 3, n)
	if strayed > n/20 {
		t.Errorf("maglev: %d of %d keys of other hosts moved", strayed, n)
	}
	if lost < n*9/100 || lost > n*11/100 {
		t.Errorf("maglev: the removed host had %d of %d keys, want a tenth", lost, n)
	}
}

func TestTheOrderOfDiscoveryDoesNotMatter(t *testing.T) {
	for _, b := range []Balancer{RingHash, Maglev} {
		one, other := New("a", "b", "c", Settings{Balancer: b}), New("a", "b", "c", Settings{Balancer: b})
		hosts := someHosts(7)
		one.SetEndpoints(hosts)
		slices.Reverse(hosts)
		other.SetEndpoints(hosts)
		for i := range 1000 {
			k := Key{Hash: uint64(i) * 0x9e3779b97f4a7c15, HasHash: true}
			x, errX := one.Pick(k)
			y, errY := other.Pick(k)
			if errX != nil || errY != nil || x.Address != y.Address {
				t.Fatalf("%s: hash %d goes to %s and %s", b, k.Hash, x.Address, y.Address)
			}
		}
	}
}

func TestMaglevIsEven(t *testing.T) {
	var slots [10]int
	for _, owner := range newMaglev(ports(1, 10), 0).owners {
		slots[owner]++
	}
	for i, n := range slots {
		if n < defaultTable/10 || n > defaultTable/10+1 {
			t.Errorf("host %d has %d slots", i, n)
		}
	}
}

type fakeHeader map[string]string

func (f fakeHeader) At(name string, i int) (string, bool) {
	value := f.Get(name)
	return value, i == 0 && value != ""
}

func (f fakeHeader) Get(name string) string { return f[name] }
func (f fakeHeader) Set(name, value string) { f[name] = value }
func (f fakeHeader) Add(name, value string) { f.Set(name, value) }
func (f fakeHeader) Del(name string)        { delete(f, name) }

func (fakeHeader) AppendHead(dst []byte, _ int) ([]byte, exchange.HeadForm, bool) {
	return dst, exchange.NoHead, true
}

func TestKeys(t *testing.T) {
	x := &exchange.Exchange{Downstream: "10.1.2.3:555", Request: fakeHeader{"x-user": "ann", "cookie": `a=1; s="two"; b=3`}}
	for _, tc := range []struct {
		name string
		key  HashKey
		path string
		want string // "" for none
	}{
		{"header", HashKey{Header: "x-user"}, "/", "ann"},
		{"no header", HashKey{Header: "x-other"}, "/", ""},
		{"cookie", HashKey{Cookie: "a"}, "/", "1"},
		{"quoted cookie", HashKey{Cookie: "s"}, "/", "two"},
		{"no cookie is made without a ttl", HashKey{Cookie: "c"}, "/", ""},
		{"address", HashKey{SourceIP: true}, "/", "10.1.2.3"},
		{"parameter", HashKey{QueryParameter: "q"}, "/p?x=1&q=a%20b&q=c", "a%20b"},
		{"no parameter", HashKey{QueryParameter: "q"}, "/p?x=1#q=2", ""},
		{"no key", HashKey{}, "/", ""},
	} {
		c := New("a", "b", "c", Settings{Balancer: RingHash, HashKey: tc.key})
		got, cookie := c.Key(x, tc.path)
		want := Key{}
		if tc.want != "" {
			want = Key{Hash: sum64(tc.want), HasHash: true}
		}
		if got != want || cookie != "" {
			t.Errorf("%s: %+v, %q; want %+v", tc.name, got, cookie, want)
		}
	}
}

func TestACookieIsMadeWhereNoneCame(t *testing.T) {
	c := New("a", "b", "c", Settings{Balancer: RingHash, HashKey: HashKey{Cookie: "s", Generate: true, TTL: 90e9, Path: "/p"}})
	c.random = func() uint64 { return 0xabcdef }
	k, header := c.Key(&exchange.Exchange{Request: fakeHeader{}}, "/")
	if want := `s="abcdef"; Max-Age=90; Path=/p; HttpOnly`; header != want {
		t.Errorf("Set-Cookie: %s, want %s", header, want)
	}
	// The browser sends it back, and it must lead to the same endpoint.
	again, header := c.Key(&exchange.Exchange{Request: fakeHeader{"cookie": `s="abcdef"`}}, "/")
	if again != k || header != "" {
		t.Errorf("the cookie that came back gives %+v, %q; want %+v", again, header, k)
	}
}
