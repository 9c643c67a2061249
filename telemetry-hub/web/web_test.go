package web

import (
	"bufio"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/telemetry-hub/counters"
	"github.com/telemesh/telemesh/telemetry-hub/graph"
	"github.com/telemesh/telemesh/telemetry-hub/layout"
	"github.com/telemesh/telemesh/telemetry-hub/metrics"
	"github.com/telemesh/telemesh/telemetry-hub/store"
	"github.com/telemesh/telemesh/telemetry-hub/tap"
)

type nobody struct{}

func (nobody) Presence() []graph.Presence { return nil }

// newServer is the API over an empty hub.
func newServer(t *testing.T) *httptest.Server {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	l, err := layout.New("", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	none := func() uint64 { return 0 }
	g := graph.New(graph.Options{Registry: nobody{}, Layout: l, Records: none, RecordsLost: none, Now: time.Now})
	feeds := graph.NewFeeds(g)
	ignore := func(*telemetryv1.Batch) {}
	st, err := store.Open(store.Options{Dir: t.TempDir(), RetentionBytes: 1 << 20, Checkpoint: counters.New().Export, Logger: log}, ignore, ignore)
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	db, err := metrics.OpenDatabase(t.TempDir(), time.Hour, reg, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 2)
	go func() { ran <- db.Run(ctx) }()
	go func() { ran <- feeds.Run(ctx) }()
	srv := httptest.NewServer(Handler(Options{
		Graph: g, Feeds: feeds, Store: st, Tap: &tap.Tap{}, Metrics: metrics.NewAPI(db, log), Gatherer: reg, Registry: reg,
		Status: func() topologyv1.Status { return topologyv1.Status{} }, Policies: func() topologyv1.PolicyList { return topologyv1.PolicyList{} },
		Tidy: func() {}, UI: http.NotFoundHandler(), Logger: log,
	}))
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ran; err != nil {
				t.Error(err)
			}
		}
		srv.CloseClientConnections()
		srv.Close()
		srv.Client().CloseIdleConnections()
		st.Close()
	})
	return srv
}

func get(t *testing.T, srv *httptest.Server, path, lastEvent string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastEvent != "" {
		req.Header.Set("Last-Event-ID", lastEvent)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() }) // read already
	return resp
}

func TestErrorsCarryAHint(t *testing.T) {
	srv := newServer(t)
	for path, want := range map[string]int{
		"/requests/no-such-id": 404, "/requests?limit=0": 400, "/requests?servise=a": 400, "/tap?status=x": 400, "/graph?window=0": 400,
		"/graph/stream?window=x": 400, "/series": 400, "/series?node=none": 404, "/nothing": 404,
	} {
		resp := get(t, srv, "/api/mesh/v1"+path, "")
		var body topologyv1.Error
		if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if resp.StatusCode != want || body.Error == "" || body.Hint == "" {
			t.Errorf("%s: %d %+v, want %d with error and hint", path, resp.StatusCode, body, want)
		}
	}
}

// event reads the next event's name and ID.
func event(t *testing.T, r *bufio.Reader) (name, id string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		line = strings.TrimSpace(line)
		if v, ok := strings.CutPrefix(line, "event: "); ok {
			name = v
		}
		if v, ok := strings.CutPrefix(line, "id: "); ok {
			id = v
		}
		if line == "" && name != "" {
			return name, id
		}
	}
}

func TestGraphStreamResumesAfterTheLastEvent(t *testing.T) {
	srv := newServer(t)
	first := bufio.NewReader(get(t, srv, "/api/mesh/v1/graph/stream", "").Body)
	name, _ := event(t, first)
	if name != "graph" {
		t.Fatalf("the first event is %q, want the whole graph", name)
	}
	name, id := event(t, first)
	if name != "delta" || id == "" {
		t.Fatalf("then %q with ID %q, want a delta with one", name, id)
	}
	resumed := bufio.NewReader(get(t, srv, "/api/mesh/v1/graph/stream", id).Body)
	if name, next := event(t, resumed); name != "delta" || next == id {
		t.Errorf("after %s came %q %s, want the next delta", id, name, next)
	}
	afresh := bufio.NewReader(get(t, srv, "/api/mesh/v1/graph/stream", "999999999").Body)
	if name, _ := event(t, afresh); name != "graph" {
		t.Errorf("an unknown ID brought %q, want the whole graph", name)
	}
}

func TestDetailIsWaitOrNo(t *testing.T) {
	srv := newServer(t)
	for query, want := range map[string]int{"": 404, "?detail=wait": 404, "?detail=no": 404, "?detail=kept": 404, "?detail=all": 400} {
		resp := get(t, srv, "/api/mesh/v1/requests/x"+query, "")
		var e topologyv1.Error
		if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || resp.StatusCode != want || e.Hint == "" {
			t.Errorf("%q: %d %+v, %v", query, resp.StatusCode, e, err)
		}
	}
}
