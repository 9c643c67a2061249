package command

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeHub serves the fixed mesh as the hub's API would.
type fakeHub struct {
	*httptest.Server
	// missing is how often a look-up of the fixed request fails before it
	// succeeds.
	missing atomic.Int32
	// tapQuery is the query of the last tap.
	tapQuery atomic.Value
}

func newFakeHub(t *testing.T) *fakeHub {
	t.Helper()
	h := &fakeHub{}
	mux := http.NewServeMux()
	answer := func(pattern string, doc func(r *http.Request) any) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) { reply(w, http.StatusOK, doc(r)) })
	}
	answer("/api/mesh/v1/graph", func(r *http.Request) any {
		window, err := strconv.Atoi(r.URL.Query().Get("window"))
		if err != nil {
			t.Errorf("window: %v", err)
		}
		return bookinfo(window)
	})
	answer("/api/mesh/v1/status", func(*http.Request) any { return bookinfoStatus("127.0.0.1:15080") })
	answer("/api/mesh/v1/policies", func(*http.Request) any { return bookinfoPolicies() })
	mux.HandleFunc("GET /api/mesh/v1/requests/{id}", h.request)
	mux.HandleFunc("GET /api/mesh/v1/tap", h.tap)
	mux.HandleFunc("GET /api/v1/query", query)
	h.Server = httptest.NewServer(mux)
	t.Cleanup(h.Close)
	return h
}

func reply(w http.ResponseWriter, status int, doc any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A client that went away is its own problem.
	_ = json.NewEncoder(w).Encode(doc)
}

func (h *fakeHub) request(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !strings.Contains(id, fixedTrace) && id != fixedRequest || h.missing.Add(-1) >= 0 {
		reply(w, http.StatusNotFound, topologyv1.Error{Error: "no record of " + id})
		return
	}
	reply(w, http.StatusOK, bookinfoTrace())
}

func (h *fakeHub) tap(w http.ResponseWriter, r *http.Request) {
	h.tapQuery.Store(r.URL.RawQuery)
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, ": hello\n\n")
	for i, rec := range tapRecords() {
		data, err := json.Marshal(rec)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(w, "id: %d\nevent: record\ndata: %s\n\n", i, data)
	}
	fmt.Fprint(w, "event: lagged\ndata: {}\n\n")
	w.(http.Flusher).Flush()
}

func tapRecords() (list []*topologyv1.Record) {
	for _, h := range bookinfoTrace().Hops {
		for _, r := range []*topologyv1.Record{h.Client, h.Server} {
			if r != nil {
				list = append(list, r)
			}
		}
	}
	return list
}

func query(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Query().Get("query") {
	case "up":
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[
			{"metric":{"__name__":"up","job":"mesh","workload":"ratings-v1"},"value":[1800000000.5,"1"]},
			{"metric":{"__name__":"up","job":"mesh","workload":"reviews-v1"},"value":[1800000000.5,"NaN"]}]}}`)
	case "up[2s]":
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"matrix","result":[
			{"metric":{"__name__":"up","workload":"unknown"},"values":[[1800000000,"1"],[1800000001,"0"]]}]}}`)
	case "1+1":
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"scalar","result":[1800000000,"2"]}}`)
	case "nothing":
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[]}}`)
	default:
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"status":"error","errorType":"bad_data","error":"1:5: parse error: unexpected end of input"}`)
	}
}

// outcome is what a command line did.
type outcome struct {
	code        int
	out, errors string
}

// world is what a test may change of a command's surroundings.
type world struct {
	stdin  string
	env    map[string]string
	opened []string
	tty    bool
}

func (w *world) run(t *testing.T, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	s := Streams{
		In: strings.NewReader(w.stdin), Out: &out, Err: &errs, Terminal: w.tty, Width: 110,
		Getenv: func(name string) string { return w.env[name] },
		Now:    func() time.Time { return fixedNow },
		OpenBrowser: func(url string) error {
			w.opened = append(w.opened, url)
			return nil
		},
	}
	root := Root(s)
	root.SetArgs(args)
	return outcome{Execute(t.Context(), root, &errs), out.String(), errs.String()}
}

// run is a command line that asks the hub, without a terminal.
func (h *fakeHub) run(t *testing.T, args ...string) outcome {
	t.Helper()
	o := (&world{}).run(t, append([]string{"--hub", h.URL}, args...)...)
	// The port is another one in each run.
	o.out = strings.ReplaceAll(o.out, h.URL, "http://hub:15080")
	o.errors = strings.ReplaceAll(o.errors, h.URL, "http://hub:15080")
	return o
}

// golden compares with testdata/NAME, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
