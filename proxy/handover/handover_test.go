package handover

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// old is a process that can be taken over: one listener, one control socket.
type old struct {
	t       *testing.T
	path    string
	l       net.Listener
	control *Control
	waited  chan error
	cancel  context.CancelFunc
}

func newOld(t *testing.T, offer func(*old) (Offer, error)) *old {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &old{t: t, path: filepath.Join(t.TempDir(), "hand-over"), l: l, waited: make(chan error, 1)}
	if o.control, err = Listen(o.path); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, o.cancel = context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		o.waited <- o.control.Wait(ctx, func() (Offer, error) { return offer(o) }, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() { o.cancel(); <-ended; o.control.Close(); l.Close() })
	return o
}

// all offers the listener twice, once as if of another network namespace.
func all(o *old) (Offer, error) {
	return Offer{Service: "reviews", Instance: "reviews-1", Epoch: 7, Configuration: []byte(strings.Repeat("services", 1<<16)), Listeners: []Listener{
		{Role: "inbound", Listener: o.l}, {Role: "outbound", Listener: o.l, Netns: "/run/netns/pod"},
	}}, nil
}

func (o *old) take() *Taken {
	o.t.Helper()
	taken, err := Take(o.t.Context(), o.path)
	if err != nil {
		o.t.Fatal(err)
	}
	return taken
}

func TestSocketsAreHandedOver(t *testing.T) {
	o := newOld(t, all)
	taken := o.take()
	if taken.Service != "reviews" || taken.Instance != "reviews-1" || taken.Epoch != 7 || len(taken.Configuration) != 8<<16 {
		t.Errorf("took %q %q %d and %d bytes", taken.Service, taken.Instance, taken.Epoch, len(taken.Configuration))
	}
	address := o.l.Addr().String()
	for _, other := range []struct{ role, address, netns string }{
		{"admin", address, ""}, {"inbound", "127.0.0.2:0", ""}, {"inbound", "127.0.0.1:1", ""}, {"inbound", address, "/run/netns/other"},
	} {
		if l, err := taken.Listener(other.role, other.address, other.netns); l != nil || err != nil {
			t.Errorf("%v: %v, %v; want nothing", other, l, err)
		}
	}
	l, err := taken.Listener("inbound", "127.0.0.1:0", "")
	if err != nil || l == nil || l.Addr().String() != address {
		t.Fatalf("inbound: %v, %v", l, err)
	}
	defer l.Close()

	// A connection that waits in the queue outlives the old process' descriptor.
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	next, err := taken.Serving()
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := <-o.waited; err != nil {
		t.Fatal(err)
	}
	o.l.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	accepted.Close()

	// The new process can be taken over in turn, at the same path.
	o.control.Close()
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error, 1)
	go func() {
		waited <- next.Wait(ctx, func() (Offer, error) { return Offer{Service: "second"}, nil }, slog.New(slog.DiscardHandler))
	}()
	second := o.take()
	if second.Service != "second" || second.Configuration != nil {
		t.Errorf("took over from %q", second.Service)
	}
	second.Close()
	cancel()
	<-waited
}

func TestOldProcessServesOnWhenTheNewOneFails(t *testing.T) {
	o := newOld(t, all)
	o.take().Close() // dies between taking and serving
	taken := o.take()
	l, err := taken.Listener("inbound", o.l.Addr().String(), "")
	if err != nil || l == nil {
		t.Fatalf("the second time: %v, %v", l, err)
	}
	l.Close() // one descriptor of two
	taken.Close()
	c, err := net.Dial("tcp", o.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	select {
	case err := <-o.waited:
		t.Errorf("stopped waiting: %v", err)
	default:
	}
}

func TestRefusalSaysWhy(t *testing.T) {
	o := newOld(t, func(*old) (Offer, error) { return Offer{}, errors.New("it is draining") })
	if _, err := Take(t.Context(), o.path); err == nil || !strings.Contains(err.Error(), "it is draining") {
		t.Errorf("Take: %v", err)
	}
}

func TestNobodyToTakeOverFrom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hand-over")
	if _, err := Take(t.Context(), path); !errors.Is(err, ErrNobody) {
		t.Errorf("without a socket: %v", err)
	}
	c, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	c.l.Close() // as a process that was killed leaves it
	if _, err := Take(t.Context(), path); !errors.Is(err, ErrNobody) {
		t.Errorf("with a dead socket: %v", err)
	}
	if c, err = Listen(path); err != nil {
		t.Fatalf("over a dead socket: %v", err)
	}
	c.Close()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
}

// What does not speak the protocol is answered and survived.
func TestStrangers(t *testing.T) {
	o := newOld(t, all)
	for name, said := range map[string]string{
		"not JSON":     "hello",
		"other word":   `{"version":1,"say":"serving"}`,
		"other time":   `{"version":2,"say":"take"}`,
		"empty":        ``,
		"wrong type":   `{"version":1,"say":7}`,
		"a long story": `{"version":1,"say":"` + strings.Repeat("x", maxMessage) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.DialUnix(network, nil, &net.UnixAddr{Name: o.path, Net: network})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			if said != "" {
				_, err = c.Write([]byte(said))
			} else {
				err = c.CloseWrite()
			}
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, maxMessage)
			n, err := c.Read(b)
			var m message
			if err != nil && !errors.Is(err, io.EOF) || json.Unmarshal(b[:n], &m) != nil || m.Say != refused {
				t.Errorf("answer %q, %v", b[:n], err)
			}
		})
	}
	o.take().Close()
}

func TestNewProcessSurvivesAStrangeOldOne(t *testing.T) {
	for name, said := range map[string]string{
		"not JSON":          "hello",
		"missing sockets":   `{"version":1,"say":"give","sockets":[{"role":"inbound"}]}`,
		"another version":   `{"version":9,"say":"give"}`,
		"another word":      `{"version":1,"say":"released"}`,
		"nothing, and ends": ``,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hand-over")
			l, err := net.Listen(network, path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				_, _ = c.Read(make([]byte, maxMessage))
				if said != "" {
					_, _ = c.Write([]byte(said))
				}
			}()
			if _, err := Take(t.Context(), path); err == nil || errors.Is(err, ErrNobody) {
				t.Errorf("Take: %v", err)
			}
			<-ended
		})
	}
}
