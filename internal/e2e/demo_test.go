//go:build e2e

package e2e

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// result is the last line of meshctl demo --json.
type result struct {
	Sent, Failed uint64
	Edges        []struct {
		Source, Destination, Protocol   string
		Services, Sidecars, Hub, PromQL uint64
		Received                        struct{ Services, Sidecars, Hub, PromQL uint64 }
	}
	Lookups           struct{ Asked, Found uint64 }
	Throttled, Denied uint64
}

// bounded runs a bounded demo and returns its account.
func bounded(t *testing.T, args ...string) result {
	t.Helper()
	dir := t.TempDir()
	all := append([]string{
		"demo", "--json", "--http-address", "127.0.0.1:0", "--grpc-address", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "data"),
	}, args...)
	out, errs, code := run(t, nil, binary(t, "meshctl"), all...)
	if code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, out, errs)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var r result
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("last line %q: %v", lines[len(lines)-1], err)
	}
	if left := processes(t, dir); len(left) > 0 {
		t.Errorf("processes are left: %q", left)
	}
	t.Logf("%+v", r)
	return r
}

func (r result) check(t *testing.T, received bool) {
	t.Helper()
	if r.Sent == 0 || r.Failed != 0 {
		t.Errorf("sent %d, failed %d: want some and none", r.Sent, r.Failed)
	}
	if len(r.Edges) != 4 {
		t.Errorf("%d edges, want 4", len(r.Edges))
	}
	for _, e := range r.Edges {
		if e.Services == 0 || e.Sidecars != e.Services || e.Hub != e.Services || e.PromQL != e.Services {
			t.Errorf("%s → %s: services %d, sidecars %d, hub %d, promql %d", e.Source, e.Destination, e.Services, e.Sidecars, e.Hub, e.PromQL)
		}
		v := e.Received
		if received && (v.Services != e.Services || v.Sidecars != e.Services || v.Hub != e.Services || v.PromQL != e.Services) {
			t.Errorf("%s → %s: %d were sent; callee: services %d, sidecars %d, hub %d, promql %d", e.Source, e.Destination, e.Services, v.Services, v.Sidecars, v.Hub, v.PromQL)
		}
	}
}

func TestCountsAgreeEdgeByEdgeToTheLastRequest(t *testing.T) {
	r := bounded(t, "--duration", "12s", "--rate", "40")
	r.check(t, true)
	if r.Lookups.Asked < r.Sent || r.Lookups.Found != r.Lookups.Asked {
		t.Errorf("looked up %d of %d requests, found %d within 2 s", r.Lookups.Asked, r.Sent, r.Lookups.Found)
	}
}

func TestCountsAgreeOverHTTP2(t *testing.T) {
	bounded(t, "--duration", "9s", "--rate", "40", "--http2").check(t, true)
	bounded(t, "--duration", "9s", "--http2", "--chaos", "sidecar").check(t, false)
}

// TestCountsAgreeOverEveryProtocol has HTTP/2, gRPC and plain TCP within one mesh:
// neither the load nor the account may notice what an edge speaks.
func TestCountsAgreeOverEveryProtocol(t *testing.T) {
	r := bounded(t, "--duration", "3s", "--mixed")
	r.check(t, true)
	for _, e := range r.Edges {
		want := map[string]string{"details": "grpc", "ratings": "tcp"}[e.Destination]
		if e.Protocol != cmp.Or(want, "http") {
			t.Errorf("%s → %s speaks %q, want %q", e.Source, e.Destination, e.Protocol, cmp.Or(want, "http"))
		}
	}
	for _, victim := range []string{"hub", "sidecar", "service"} {
		t.Run(victim, func(t *testing.T) {
			bounded(t, "--duration", "4s", "--mixed", "--chaos", victim).check(t, victim == "hub")
		})
	}
}

func TestCountsAgreeAlthoughTheHubIsKilled(t *testing.T) {
	r := bounded(t, "--duration", "12s", "--rate", "40", "--chaos", "hub")
	r.check(t, true)
	if r.Lookups.Found != r.Lookups.Asked {
		t.Errorf("%d of %d requests found", r.Lookups.Found, r.Lookups.Asked)
	}
}

func TestCallersCountAgreesAlthoughASidecarOrAServiceIsKilled(t *testing.T) {
	for _, victim := range []string{"sidecar", "service"} {
		t.Run(victim, func(t *testing.T) { bounded(t, "--duration", "9s", "--chaos", victim).check(t, false) })
	}
}

func TestDemoIsReadyWithinTenSecondsAndLeavesNothingBehind(t *testing.T) {
	began := time.Now()
	d := startDemo(t)
	// The promise of the product, not a measurement: it takes about one second.
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("ready after %s", took)
	}
	eventually(t, 5*time.Second, "the demo prints where to look", func() error {
		if out := d.out.String(); !strings.Contains(out, d.UI) || !strings.Contains(out, d.RequestID) {
			return os.ErrNotExist
		}
		return nil
	})
	d.stop(t)
	if left := processes(t, d.dir); len(left) > 0 {
		t.Errorf("processes are left after Ctrl-C: %q", left)
	}
}

func TestEveryRequestIsFoundWithAllItsHops(t *testing.T) {
	d := startDemo(t, "--rate", "5")
	client := d.through()
	for i := range 5 {
		req, err := http.NewRequest(http.MethodGet, "http://productpage:9080/productpage", nil)
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if i%2 == 1 { // an ID that the client chose
			want = "order-" + string(rune('a'+i))
			req.Header.Set("X-Request-Id", want)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		id := resp.Header.Get("X-Request-Id")
		if id == "" || want != "" && id != want {
			t.Fatalf("x-request-id of the response is %q, want %q", id, want)
		}
		out, errs, code := d.meshctl("trace", id, "--wait", "2s")
		if code != 0 {
			t.Fatalf("meshctl trace %s: exit %d\n%s%s", id, code, out, errs)
		}
		for _, hop := range []string{"loadgen-v1", "productpage-v1", "details-v1", "reviews-v", "client", "server"} {
			if !strings.Contains(out, hop) {
				t.Errorf("trace of %s lacks %s:\n%s", id, hop, out)
			}
		}
		if strings.Contains(out, "has not reported") {
			t.Errorf("trace of %s has gaps:\n%s", id, out)
		}
	}
}
