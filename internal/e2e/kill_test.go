//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/scrape"
	"github.com/telemesh/telemesh/internal/vocab"
)

// shownWithin is the product's promise for telling of a death.
const shownWithin = 5 * time.Second

// kill sends SIGKILL to a process of the demo.
func (d *demo) kill(name string) {
	d.t.Helper()
	if err := syscall.Kill(d.PIDs[name], syscall.SIGKILL); err != nil {
		d.t.Fatalf("kill %s: %v", name, err)
	}
}

// hub is the demo's hub, killed and started again by the test.
type hub struct {
	d    *demo
	path string
	args []string
	*child
}

// killHub kills the demo's hub and remembers how it was started.
func (d *demo) killHub() *hub {
	d.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", d.PIDs["hub"]))
	if err != nil {
		d.t.Fatal(err)
	}
	line := strings.Split(string(bytes.TrimRight(b, "\x00")), "\x00")
	d.kill("hub")
	h := &hub{d: d, path: line[0], args: line[1:]}
	// It was started on ports of its choice and must come back on the same.
	h.args = append(h.args, "--http-address", strings.TrimPrefix(d.Hub, "http://"), "--grpc-address", d.GRPC)
	eventually(d.t, shownWithin, "the hub is gone", func() error {
		if _, err := get(d.Hub + "/api/mesh/v1/status"); err == nil {
			return errors.New("it still answers")
		}
		return nil
	})
	return h
}

// start starts the hub again and waits until it answers and all sidecars are
// back.
func (h *hub) start(t testing.TB) {
	t.Helper()
	h.child = start(t, nil, h.path, h.args...)
	eventually(t, 20*time.Second, "the hub is back with its sidecars", func() error {
		select {
		case <-h.done:
			t.Fatalf("the hub ended: %s", h.errs)
		default:
		}
		var s topologyv1.Status
		if err := getJSON(h.d.Hub+"/api/mesh/v1/status", &s); err != nil {
			return err
		}
		connected := 0
		for _, one := range s.Sidecars {
			if one.Connected {
				connected++
			}
		}
		if connected != 7 {
			return fmt.Errorf("%d of %d sidecars are connected", connected, len(s.Sidecars))
		}
		return nil
	})
}

// kill ends the test's hub as a crash would and waits for its end.
func (h *hub) kill() {
	_ = h.cmd.Process.Kill() // it may have ended
	<-h.done
}

// slow is a load that leaves seconds between its requests, so that counts can
// be compared that are read one after the other.
const slow = "0.2"

// countsAgree waits for a moment between two requests in which every sidecar's
// own count is also the hub's, in the graph, /metrics and PromQL. The load must
// be slow.
func (d *demo) countsAgree(t testing.TB) {
	t.Helper()
	eventually(t, 30*time.Second, "sidecars and hub count the same", func() error {
		hub, err := scrape.Get(t.Context(), d.Hub)
		if err != nil {
			return err
		}
		g := d.graph(60)
		for workload, admin := range d.Admins {
			own, err := scrape.Get(t.Context(), "http://"+admin)
			if err != nil {
				return err
			}
			for reporter, label := range map[string]string{
				vocab.ReporterSource: vocab.LabelSourceWorkload, vocab.ReporterDestination: vocab.LabelDestinationWorkload,
			} {
				labels := map[string]string{vocab.LabelReporter: reporter, label: workload}
				one := counts{sidecar: own.Sum(vocab.MetricRequests, labels), hub: hub.Sum(vocab.MetricRequests, labels), graph: total(g, workload, reporter)}
				if one.sidecar > 0 {
					if one.promql, err = promql(d.Hub, fmt.Sprintf("sum(%s{reporter=%q,%s=%q})", vocab.MetricRequests, reporter, label, workload)); err != nil {
						return err
					}
				}
				if one != (counts{one.sidecar, one.sidecar, one.sidecar, one.sidecar}) {
					return fmt.Errorf("%s as %s: %+v", workload, reporter, one)
				}
			}
		}
		return nil
	})
}

// counts of one sidecar's requests in four places.
type counts struct{ sidecar, hub, promql, graph float64 }

// total is what a workload reported as source or as destination since the
// beginning, by the graph.
func total(g topologyv1.Graph, workload, reporter string) float64 {
	id, n := node(g, workload).ID, uint64(0)
	for _, e := range g.Edges {
		if reporter == vocab.ReporterSource && e.Source == id {
			n += e.SourceTotal
		}
		if reporter == vocab.ReporterDestination && e.Destination == id {
			n += e.DestinationTotal
		}
	}
	return float64(n)
}

// noneFailed checks that every request the load has sent was answered well.
func (d *demo) noneFailed() {
	d.t.Helper()
	all, err := scrape.Get(d.t.Context(), "http://"+d.Admins["loadgen-v1"])
	if err != nil {
		d.t.Fatal(err)
	}
	if sent, ok := all.Sum(vocab.MetricRequests, nil), all.Sum(vocab.MetricRequests, map[string]string{vocab.LabelCode: "200"}); sent == 0 || ok != sent {
		d.t.Errorf("of %.0f requests of the load %.0f were answered with 200", sent, ok)
	}
}

// fails calls ratings until the edge from the load shows errors and flagged has
// no objection to how.
func (d *demo) fails(client *http.Client, flagged func(edge string) error) {
	d.t.Helper()
	eventually(d.t, shownWithin, "the callers' edge shows errors", func() error {
		if a, err := call(client, ratingsURL); err != nil || a.status != http.StatusServiceUnavailable {
			return fmt.Errorf("ratings answers %d %q, %v; want 503", a.status, a.body, err)
		}
		e := edge(d.graph(60), "loadgen-v1", "ratings-v1")
		if e.Signals.Errors == 0 || e.Health != topologyv1.Failing {
			return fmt.Errorf("the edge is %s (%s) with %+v", e.Health, e.HealthReason, e.Signals)
		}
		return flagged(e.ID)
	})
}

// becomes waits until the graph says a node's health, with this in the reason.
func (d *demo) becomes(workload string, health topologyv1.Health, reason string) {
	d.t.Helper()
	eventually(d.t, shownWithin, workload+" is "+string(health), func() error {
		if n := node(d.graph(10), workload); n.Health != health || !strings.Contains(n.HealthReason, reason) {
			return fmt.Errorf("it is %s: %s", n.Health, n.HealthReason)
		}
		return nil
	})
}

func TestADeadSidecarIsShownAsLost(t *testing.T) {
	d := startDemo(t, "--rate", "5")
	d.kill("ratings-v1/sidecar")
	d.becomes("ratings-v1", topologyv1.Lost, "no sidecar of this workload is connected")
	d.fails(d.through(), func(edge string) error {
		flags, err := d.responses(edge)
		if err == nil && flags[vocab.FlagUpstreamConnect] == 0 {
			err = fmt.Errorf("flags of the edge's responses: %v", flags)
		}
		return err
	})
	if connected, err := promql(d.Hub, `sum(mesh_sidecar_connected{workload="ratings-v1"})`); err != nil || connected != 0 {
		t.Errorf("mesh_sidecar_connected of ratings-v1 is %g, %v", connected, err)
	}
}

func TestADeadServiceIsShownAsFailing(t *testing.T) {
	d := startDemo(t, "--rate", "5")
	d.kill("ratings-v1")
	d.becomes("ratings-v1", topologyv1.Failing, "does not accept connections")
	// The callee's sidecar is there and knows why; the caller's got an answer.
	d.fails(d.through(), func(edge string) error {
		var list topologyv1.RequestList
		err := getJSON(d.Hub+"/api/mesh/v1/requests?from=loadgen&reporter=destination&status=error&limit=1&edge="+url.QueryEscape(edge), &list)
		if err == nil && (len(list.Requests) == 0 || list.Requests[0].Flags != vocab.FlagUpstreamConnect) {
			err = fmt.Errorf("records of the edge: %+v", list.Requests)
		}
		return err
	})
	eventually(t, shownWithin, "PromQL counts them", func() error {
		_, err := promql(d.Hub, `sum(istio_requests_total{reporter="destination",destination_workload="ratings-v1",response_flags="UF"})`)
		return err
	})
}

func TestADeadHubCostsNoRequestAndNoCount(t *testing.T) {
	d := startDemo(t, "--rate", slow)
	client := d.through()
	// One request on an edge that has no other: it must not be forgotten.
	if a, err := call(client, "http://details:9080/details/0"); err != nil || a.status != http.StatusOK {
		t.Fatalf("details answers %d, %v", a.status, err)
	}
	d.countsAgree(t)
	before := d.graph(60)
	sidecar := "http://" + d.Admins["ratings-v1"]
	counted, err := scrape.Sum(t.Context(), sidecar, vocab.MetricRequests, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := d.killHub()
	const n = 100
	for range n {
		if a, err := call(client, ratingsURL); err != nil || a.status != http.StatusOK {
			t.Fatalf("without a hub ratings answers %d %q, %v", a.status, a.body, err)
		}
	}
	if now, err := scrape.Sum(t.Context(), sidecar, vocab.MetricRequests, nil); err != nil || now < counted+n {
		t.Errorf("the sidecar's count went from %.0f to %.0f over %d requests without a hub, %v", counted, now, n, err)
	}
	h.start(t)
	d.countsAgree(t)
	after := d.graph(60)
	for _, e := range before.Edges {
		found := false
		for _, f := range after.Edges {
			found = found || f.ID == e.ID && f.SourceTotal >= e.SourceTotal && f.DestinationTotal >= e.DestinationTotal
		}
		if !found {
			t.Errorf("edge %s with %d requests has shrunk or is gone", e.ID, e.SourceTotal)
		}
	}
	if e := edge(after, "loadgen-v1", "ratings-v1"); e.SourceTotal != n || e.DestinationTotal != n {
		t.Errorf("of %d requests without a hub %d and %d are counted", n, e.SourceTotal, e.DestinationTotal)
	}
	d.noneFailed()
}
