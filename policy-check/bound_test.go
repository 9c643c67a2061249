package policy

import (
	"testing"
	"time"
)

func TestBound(t *testing.T) {
	b := Bucket{Limit: 10_000, Window: time.Second, Burst: 500, Scope: ScopeMesh}
	for _, c := range []struct {
		what      string
		got, want float64
	}{
		{"a second", b.Bound(time.Second, 100*time.Millisecond, 100), 10_000 + 500 + 1000 + 100},
		{"no time", b.Bound(0, 100*time.Millisecond, 100), 500 + 1000 + 100},
		{"a restart", b.RestartBound(100*time.Millisecond, 100), 1100},
		{"a restart with a large burst", Bucket{Limit: 1, Window: time.Second, Burst: 50, Scope: ScopeMesh}.RestartBound(100*time.Millisecond, 3), 50},
		{"each pod for itself", Bucket{Limit: 10, Window: time.Second, Burst: 2, Scope: ScopePod}.Bound(time.Second, time.Second, 3), 36},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
}
