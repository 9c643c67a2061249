package registry

import (
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
)

func TestConnectRefusesABadHello(t *testing.T) {
	r := newRig(t, "")
	for name, m := range map[string]*discoveryv1.ConnectRequest{
		"no hello":    {Message: &discoveryv1.ConnectRequest_Health{Health: &discoveryv1.Health{}}},
		"no node":     {Message: &discoveryv1.ConnectRequest_Hello{Hello: &discoveryv1.Hello{}}},
		"no instance": {Message: &discoveryv1.ConnectRequest_Hello{Hello: &discoveryv1.Hello{Node: node("", "a")}}},
		"no service":  {Message: &discoveryv1.ConnectRequest_Hello{Hello: &discoveryv1.Hello{Node: node("a-1", "")}}},
	} {
		stream, _ := r.open()
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: error %v, want InvalidArgument", name, err)
		}
	}
	if n := len(r.Sidecars()); n != 0 {
		t.Errorf("%d sidecars after refusals, want none", n)
	}
}

func TestSidecarsLearnOfOneAnother(t *testing.T) {
	r := newRig(t, "")
	a := r.join(node("a-1", "a"), nil)
	caller := node("loadgen-1", "loadgen")
	caller.InboundAddress = ""
	b := r.join(caller, nil)
	a.until(func() bool { return a.sidecars == 2 })
	if e := b.endpoint("a"); e == nil || e.GetHealthy() {
		t.Fatalf("endpoint of a = %v, want one that is not healthy before its application was seen", e)
	}
	if len(b.services) != 1 {
		t.Errorf("%d services, want one: a caller serves nothing", len(b.services))
	}
	a.health(true)
	b.until(func() bool { return b.endpoint("a").GetHealthy() })
	a.health(false)
	b.until(func() bool { return !b.endpoint("a").GetHealthy() })
}

func TestSidecarThatHasEverythingIsToldNothing(t *testing.T) {
	r := newRig(t, "")
	have := make(map[string]string)
	a := r.join(node("a-1", "a"), nil)
	all, _, _ := r.resources()
	for key, res := range all {
		have[key] = res.GetVersion()
	}
	have["service/gone.default.svc.cluster.local"] = "1"
	caller := node("loadgen-1", "loadgen")
	caller.InboundAddress = ""
	stream, _ := r.open()
	if err := stream.Send(&discoveryv1.ConnectRequest{Message: &discoveryv1.ConnectRequest_Hello{Hello: &discoveryv1.Hello{Node: caller, ResourceVersions: have}}}); err != nil {
		t.Fatal(err)
	}
	in, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if len(in.GetResources()) != 0 || len(in.GetRemoved()) != 1 {
		t.Errorf("told of %v and without %v, want nothing new and one service gone", in.GetResources(), in.GetRemoved())
	}
	a.until(func() bool { return a.sidecars == 2 })
}

func TestGoodbyeTakesTheEndpointAtOnce(t *testing.T) {
	r := newRig(t, "")
	a, b := r.join(node("a-1", "a"), nil), r.join(node("b-1", "b"), nil)
	if err := a.CloseSend(); err != nil {
		t.Fatal(err)
	}
	b.until(func() bool { return b.endpoint("a") == nil && b.sidecars == 1 })
	if got := <-r.gone; got != "a-1" {
		t.Errorf("gone = %s, want a-1", got)
	}
}

func TestBrokenStreamLeavesAnEndpointOfLastResort(t *testing.T) {
	r := newRig(t, "")
	a, b := r.join(node("a-1", "a"), nil), r.join(node("b-1", "b"), nil)
	a.health(true)
	b.until(func() bool { return b.endpoint("a").GetHealthy() })
	a.cut()
	b.until(func() bool { return b.sidecars == 1 && !b.endpoint("a").GetHealthy() })
	if b.endpoint("a") == nil {
		t.Fatal("a broken stream took the endpoint away")
	}
	r.pass(linger + 1e9)
	r.Expire()
	b.until(func() bool { return b.endpoint("a") == nil })
	if n := len(r.Sidecars()); n != 2 {
		t.Errorf("%d sidecars, want the lost one shown still", n)
	}
	r.pass(remember)
	r.Expire()
	if got := <-r.gone; got != "a-1" {
		t.Errorf("gone = %s, want a-1", got)
	}
}

func TestPoliciesAreAcknowledgedByVersion(t *testing.T) {
	r := newRig(t, "")
	r.SetPolicies([]Policy{{ID: "default/p", Version: "1", Canonical: []byte("one")}})
	a := r.join(node("a-1", "a"), nil)
	if a.policies["trafficpolicy/default/p"] != "one" {
		t.Fatalf("policies = %v, want the first", a.policies)
	}
	inForce := func(version string) func() bool {
		return func() bool { return r.Sidecars()[0].Policies["default/p"] == version }
	}
	if inForce("1")() {
		t.Error("a policy is in force before the sidecar said so")
	}
	a.ack("")
	eventually(t, "version 1 in force", inForce("1"))

	r.SetPolicies([]Policy{{ID: "default/p", Version: "2", Canonical: []byte("two")}})
	a.until(func() bool { return a.policies["trafficpolicy/default/p"] == "two" })
	a.ack("rule 1: no such attribute")
	eventually(t, "refusal shown", func() bool { return r.Sidecars()[0].Detail == "rule 1: no such attribute" })
	if !inForce("1")() {
		t.Error("a refused version replaced the one in force")
	}

	r.SetPolicies(nil)
	a.until(func() bool { return len(a.policies) == 0 })
	a.ack("")
	eventually(t, "nothing in force", inForce(""))
}

func TestNewerStreamTakesTheInstanceOver(t *testing.T) {
	r := newRig(t, "")
	old := r.join(node("a-1", "a"), nil)
	moved := node("a-1", "a")
	moved.InboundAddress = "127.0.0.1:15007"
	newer := r.join(moved, nil)
	for {
		if _, err := old.Recv(); err != nil {
			if status.Code(err) != codes.Aborted {
				t.Errorf("the old stream ended with %v, want Aborted", err)
			}
			break
		}
	}
	old.cut()
	b := r.join(node("b-1", "b"), nil)
	newer.until(func() bool { return newer.endpoint("b") != nil && newer.sidecars == 2 })
	if got := b.endpoint("a").GetAddress(); got != "127.0.0.1:15007" {
		t.Errorf("address = %s, want that of the newer stream", got)
	}
	if !r.Sidecars()[0].Connected {
		t.Error("the end of the old stream disconnected the newer one")
	}
}

func TestRestartKeepsEndpointsForTheGrace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sidecars.json")
	first := newRig(t, file)
	a := first.join(node("a-1", "a"), nil)
	first.join(node("b-1", "b"), nil)
	a.until(func() bool { return a.sidecars == 2 })

	r := newRig(t, file)
	back := r.join(node("b-1", "b"), nil)
	if !back.endpoint("a").GetHealthy() || back.sidecars != 1 {
		t.Fatalf("a = %v among %d sidecars; want it healthy, although not back yet", back.endpoint("a"), back.sidecars)
	}
	if !back.endpoint("b").GetHealthy() {
		t.Error("b came back and lost its health")
	}
	r.pass(reconnect + 1e9)
	r.Expire()
	back.until(func() bool { return back.endpoint("a") == nil })
}

func TestDamagedFileStartsWithout(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sidecars.json")
	if err := os.WriteFile(file, []byte(`[{"instance":`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, file)
	if n := len(r.Sidecars()); n != 0 {
		t.Errorf("%d sidecars from a damaged file", n)
	}
	r.join(node("a-1", "a"), nil)
}

// While a sidecar hands over to its successor both are there. The new one takes
// the place without anybody noticing, and the old one can neither have it back
// nor take it along when it leaves.
func TestOldProcessDoesNotDisturbItsSuccessor(t *testing.T) {
	r := newRig(t, "")
	at := func(epoch uint64) *discoveryv1.Node {
		n := node("reviews-1", "reviews")
		n.Epoch = epoch
		return n
	}
	caller := r.join(node("caller-1", "caller"), nil)
	old := r.join(at(1), nil)
	old.health(true)
	caller.until(func() bool { return caller.endpoint("reviews").GetHealthy() })
	successor := r.join(at(2), nil)
	for range 3 { // it tries to come back, and is told to leave
		stream, _ := r.open()
		if err := stream.Send(&discoveryv1.ConnectRequest{Message: &discoveryv1.ConnectRequest_Hello{Hello: &discoveryv1.Hello{Node: at(1)}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Aborted {
			t.Fatalf("the old process got %v, want %s", err, codes.Aborted)
		}
	}
	if err := old.CloseSend(); err != nil && status.Code(err) != codes.Aborted {
		t.Fatal(err)
	}
	if e := r.Services(); len(e) != 2 || len(e[1].GetEndpoints()) != 1 || !e[1].GetEndpoints()[0].GetHealthy() {
		t.Errorf("services: %v", e)
	}
	// If the successor dies before it serves, the old process may come back.
	successor.cut()
	eventually(t, "the successor is lost", func() bool {
		for _, s := range r.Sidecars() {
			if s.Node.GetInstance() == "reviews-1" {
				return !s.Connected
			}
		}
		return false
	})
	r.join(at(1), nil)
}
