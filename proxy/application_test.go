package proxy

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

func TestConnectsKnowsLoopbackAtOnce(t *testing.T) {
	for _, host := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", host)
		if err != nil {
			t.Logf("%s: %v", host, err) // a machine without IPv6
			continue
		}
		if known, err := connects(l.Addr().String()); !known || err != nil {
			t.Errorf("%s: known %v, error %v for a listener", host, known, err)
		}
		_ = l.Close()
		if known, err := connects(l.Addr().String()); !known || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: known %v, error %v for a closed port", host, known, err)
		}
	}
	if known, _ := connects("localhost:80"); known {
		t.Error("a name was known without a look-up")
	}
}
