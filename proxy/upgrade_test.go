package proxy

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/telemesh/telemesh/proxy/handover"
)

// load sends requests from several callers until it is told to stop. What goes
// wrong is an error of the test, with its words.
type load struct {
	sent atomic.Uint64
	stop chan struct{}
	done sync.WaitGroup
}

func startLoad(t *testing.T, s *sidecar, callers int, throughOutbound string) *load {
	l := &load{stop: make(chan struct{})}
	for i := range callers {
		c, url := &connection{address: s.InboundAddress(), close: i%2 == 1}, "/"
		if i%4 >= 2 {
			c.address, url = s.OutboundAddress(), throughOutbound
		}
		l.done.Go(func() {
			defer c.end()
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				r, err := c.get(url)
				if err != nil || r.StatusCode != http.StatusOK {
					t.Errorf("caller %d (kept connection: %v): %v %v", i, !c.close, r, err)
					return
				}
				l.sent.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	l.done.Go(func() { l.http2(t, s.InboundAddress()) })
	return l
}

// http2 is a caller whose streams share connections, which end with GOAWAY.
func (l *load) http2(t *testing.T, address string) {
	only := new(http.Protocols)
	only.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: only}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	var streams sync.WaitGroup
	for range 4 {
		streams.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				r, err := client.Get("http://" + address)
				if err != nil {
					t.Errorf("HTTP/2: %v", err)
					return
				}
				if _, err := io.Copy(io.Discard, r.Body); err != nil || r.StatusCode != http.StatusOK {
					t.Errorf("HTTP/2: %d %v", r.StatusCode, err)
				}
				r.Body.Close()
				l.sent.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	streams.Wait()
}

// TestUpgradeUnderLoad replaces the process twice while callers with kept
// connections, callers with a connection for each request and HTTP/2 go on.
func TestUpgradeUnderLoad(t *testing.T) {
	var served atomic.Uint64
	app := startApp(t, func(w http.ResponseWriter, r *http.Request) { served.Add(1); answer(w, r) })
	config := Config{
		AppAddress: hostPort(t, app), HandOver: filepath.Join(t.TempDir(), "hand-over"),
		OutboundTCP: []string{"0=db:5432", "0=queue:5672", "0=db:5432"},
	}
	generations := []*sidecar{runSidecar(t, config)}
	first := generations[0]
	l := startLoad(t, first, 12, app.URL)
	more := func() {
		at := l.sent.Load()
		eventually(t, "the load goes on", func() bool { return l.sent.Load() > at+200 || t.Failed() })
	}
	more()
	for range 2 {
		old := generations[len(generations)-1]
		next := runSidecar(t, config)
		old.wait()
		if next.InboundAddress() != first.InboundAddress() || next.OutboundAddress() != first.OutboundAddress() || next.AdminAddress() != first.AdminAddress() {
			t.Errorf("addresses moved to %s, %s, %s", next.InboundAddress(), next.OutboundAddress(), next.AdminAddress())
		}
		if !slices.Equal(next.OutboundTCP(), first.OutboundTCP()) {
			t.Errorf("opaque ports moved from %v to %v", first.OutboundTCP(), next.OutboundTCP())
		}
		if next.Instance() != first.Instance() || next.epoch <= old.epoch {
			t.Errorf("instance %s epoch %d after %s epoch %d", next.Instance(), next.epoch, old.Instance(), old.epoch)
		}
		generations = append(generations, next)
		more()
		if code := status(next.AdminAddress(), "/ready"); code != 200 {
			t.Errorf("/ready: %d", code)
		}
	}
	close(l.stop)
	l.done.Wait()
	app.Close()
	last := generations[len(generations)-1]
	last.signal()
	last.wait()
	var counted uint64
	for i, s := range generations {
		in, out := s.requests()
		counted += in + out
		if in == 0 || out == 0 {
			t.Errorf("process %d counted %d and %d requests", i, in, out)
		}
	}
	if counted != l.sent.Load() || served.Load() != counted {
		t.Errorf("%d requests sent, %d served, %d counted", l.sent.Load(), served.Load(), counted)
	}
	if _, err := os.Stat(config.HandOver); !os.IsNotExist(err) {
		t.Errorf("the hand-over socket is left: %v", err)
	}
}

// A new process that does not get to serve changes nothing.
func TestUpgradeThatFailsChangesNothing(t *testing.T) {
	app := startApp(t, answer)
	config := Config{AppAddress: hostPort(t, app), HandOver: filepath.Join(t.TempDir(), "hand-over")}
	old := runSidecar(t, config)
	for range 3 { // dies between taking and serving
		taken, err := handover.Take(t.Context(), config.HandOver)
		if err != nil {
			t.Fatal(err)
		}
		taken.Close()
	}
	bad := config
	bad.TrafficPolicyFile = "/nonexistent"
	if _, err := newSidecar(t, bad); err == nil {
		t.Fatal("a bad configuration was taken")
	}
	if code := status(old.InboundAddress(), "/"); code != 200 {
		t.Errorf("the old process answers %d", code)
	}
	next := runSidecar(t, config)
	old.wait()
	if code := status(next.InboundAddress(), "/"); code != 200 {
		t.Errorf("the new process answers %d", code)
	}
}

func TestUpgradeOfAnotherServiceIsRefused(t *testing.T) {
	config := Config{HandOver: filepath.Join(t.TempDir(), "hand-over")}
	runSidecar(t, config)
	config.Service = "ratings"
	config.setDefaults()
	p := &Proxy{config: config}
	if err := p.takeOver(); err == nil || !strings.Contains(err.Error(), "reviews") {
		t.Errorf("takeOver: %v", err)
	}
}

func TestADrainingProcessHandsNothingOver(t *testing.T) {
	config := Config{HandOver: filepath.Join(t.TempDir(), "hand-over")}
	old := runSidecar(t, config)
	old.Drain()
	eventually(t, "it drains", func() bool { return old.life.in(Draining) })
	if _, err := newSidecar(t, config); err == nil || !strings.Contains(err.Error(), "draining") {
		t.Errorf("New: %v", err)
	}
}

// A silent connection is left alone: its next request may be on its way.
func TestUpgradeAnswersAConnectionThatWasSilent(t *testing.T) {
	app := startApp(t, answer)
	config := Config{AppAddress: hostPort(t, app), HandOver: filepath.Join(t.TempDir(), "hand-over")}
	old := runSidecar(t, config)
	c := &connection{address: old.InboundAddress()}
	defer c.end()
	if _, err := c.get("/"); err != nil {
		t.Fatal(err)
	}
	runSidecar(t, config)
	eventually(t, "the old process has handed over", func() bool { return old.life.in(HandedOver) })
	select {
	case <-old.ended:
		t.Fatal("the old process left its connection")
	case <-time.After(2 * inboundSilence): // longer than an ordinary drain would wait
	}
	if r, err := c.get("/"); err != nil || r.StatusCode != 200 || !r.Close {
		t.Errorf("answer %v, %v; want 200 and close", r, err)
	}
	old.wait()
}

// What the old process knows of the mesh the new one knows, with no hub.
func TestUpgradeBringsTheConfigurationAlong(t *testing.T) {
	hub := newFakeHub(t)
	app := startApp(t, answer)
	config := Config{AppAddress: hostPort(t, app), HandOver: filepath.Join(t.TempDir(), "hand-over"), HubAddress: hub.address}
	old := runSidecar(t, config)
	eventually(t, "it knows the service", func() bool { return old.discovery.Known() != nil })
	if code := status(old.OutboundAddress(), "http://reviews/"); code != 200 {
		t.Errorf("the old process answers %d", code)
	}
	config.HubAddress = "127.0.0.1:1"
	next := runSidecar(t, config)
	old.wait()
	if code := status(next.OutboundAddress(), "http://reviews/"); code != 200 {
		t.Errorf("the new process answers %d", code)
	}
}
