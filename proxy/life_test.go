package proxy

import (
	"net/http"
	"testing"
	"time"
)

// A stop refuses who is new at once, finishes what is under way, and keeps
// calling out possible until the application has gone.
func TestStopDrainsInboundAndServesOutboundUntilTheApplicationIsGone(t *testing.T) {
	reached, release := make(chan struct{}, 1), make(chan struct{})
	app := startApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			reached <- struct{}{}
			<-release
		}
		answer(w, r)
	})
	other := startApp(t, answer)
	s := runSidecar(t, Config{AppAddress: hostPort(t, app)})
	slow := make(chan int, 1)
	go func() { slow <- status(s.InboundAddress(), "/slow") }()
	<-reached
	s.signal()
	s.awaitRefusal()
	if err := s.Ready(); err == nil || err.Error() != "draining" {
		t.Errorf("Ready: %v", err)
	}
	if code := status(s.AdminAddress(), "/ready"); code != 503 {
		t.Errorf("/ready while draining: %d", code)
	}
	if code := status(s.OutboundAddress(), other.URL); code != 200 {
		t.Errorf("the application's own call while draining: %d", code)
	}
	close(release)
	if code := <-slow; code != 200 {
		t.Errorf("the request under way got %d", code)
	}
	select {
	case <-s.ended:
		t.Fatal("it ended before its application")
	default:
	}
	app.Close()
	s.wait()
	if in, out := s.requests(); in != 1 || out != 1 {
		t.Errorf("%d and %d requests counted, want 1 and 1", in, out)
	}
}

func TestStopEndsAfterTheDrainTime(t *testing.T) {
	app := startApp(t, answer) // stays
	s := runSidecar(t, Config{AppAddress: hostPort(t, app), DrainTime: 50 * time.Millisecond})
	s.signal()
	s.wait()
}

func TestStopWithoutApplicationDrainsAtOnce(t *testing.T) {
	s := runSidecar(t, Config{}) // the drain time is the test's patience
	s.signal()
	s.wait()
}

func TestAbortCutsWhatIsUnderWay(t *testing.T) {
	reached, release := make(chan struct{}, 1), make(chan struct{})
	app := startApp(t, func(http.ResponseWriter, *http.Request) { reached <- struct{}{}; <-release })
	defer close(release)
	for name, first := range map[string]func(*sidecar){"while draining": func(s *sidecar) { s.signal() }, "while serving": func(*sidecar) {}} {
		t.Run(name, func(t *testing.T) {
			s := runSidecar(t, Config{AppAddress: hostPort(t, app)})
			got := make(chan int, 1)
			go func() { got <- status(s.InboundAddress(), "/") }()
			<-reached
			first(s)
			s.Abort()
			s.wait()
			if code := <-got; code == 200 {
				t.Error("the request was answered")
			}
		})
	}
}

// POST /drain is a stop that waits for the stop.
func TestDrainOnCallStays(t *testing.T) {
	app, other := startApp(t, answer), startApp(t, answer)
	s := runSidecar(t, Config{AppAddress: hostPort(t, app)})
	r, err := http.Post("http://"+s.AdminAddress()+"/drain", "", nil)
	if err != nil || r.StatusCode != 200 {
		t.Fatal(r, err)
	}
	r.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	s.awaitRefusal()
	app.Close() // which a stop would end with
	if code := status(s.OutboundAddress(), other.URL); code != 200 {
		t.Errorf("calling out after /drain: %d", code)
	}
	if life := s.Life(); life.State != string(Draining) {
		t.Errorf("life %+v", life)
	}
	s.signal()
	s.wait()
}

// Callers are sent elsewhere before the door is shut.
func TestTheHubHearsOfADrainFirst(t *testing.T) {
	hub := newFakeHub(t)
	app := startApp(t, answer)
	s := runSidecar(t, Config{AppAddress: hostPort(t, app), HubAddress: hub.address})
	<-hub.joined
	if h := <-hub.health; !h.GetApplicationReachable() {
		t.Fatalf("health %v", h)
	}
	eventually(t, "it knows that it has joined", s.discovery.Connected)
	s.signal()
	if h := <-hub.health; h.GetApplicationReachable() || h.GetDetail() != "draining" {
		t.Errorf("health %v", h)
	}
	s.awaitRefusal()
	select {
	case <-s.life.withdrawn.done:
	default:
		t.Error("it did not wait for the hub to tell the callers")
	}
	app.Close()
	s.wait()
	if len(hub.health) > 0 {
		t.Errorf("the end of the application was told as news of a sidecar that drains: %v", <-hub.health)
	}
}

// A hub that does not answer holds nothing up.
func TestASilentHubDelaysADrainBriefly(t *testing.T) {
	hub := newFakeHub(t)
	hub.mute = true
	app := startApp(t, answer)
	s := runSidecar(t, Config{AppAddress: hostPort(t, app), HubAddress: hub.address})
	eventually(t, "it knows that it has joined", s.discovery.Connected)
	s.signal()
	s.awaitRefusal()
	app.Close()
	s.wait()
}

// A caller with a kept connection is told with its next answer.
func TestAKeptConnectionIsToldToClose(t *testing.T) {
	app := startApp(t, answer)
	s := runSidecar(t, Config{AppAddress: hostPort(t, app)})
	c := &connection{address: s.InboundAddress()}
	defer c.end()
	if r, err := c.get("/"); err != nil || r.Close {
		t.Fatal(r, err)
	}
	s.Drain()
	s.awaitRefusal()
	if r, err := c.get("/"); err != nil || r.StatusCode != 200 || !r.Close {
		t.Errorf("answer %v, %v; want 200 and close", r, err)
	}
	app.Close()
	s.signal()
	s.wait()
}
