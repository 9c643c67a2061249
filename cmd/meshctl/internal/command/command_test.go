package command

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/version"
)

func TestOutputs(t *testing.T) {
	hub := newFakeHub(t)
	for name, args := range map[string][]string{
		"status.txt":         {"status"},
		"status-wide.txt":    {"status", "-o", "wide"},
		"stat.txt":           {"stat"},
		"stat-wide.txt":      {"stat", "-o", "wide"},
		"stat-services.txt":  {"stat", "services"},
		"stat-name.txt":      {"stat", "-o", "name"},
		"stat-one.yaml":      {"stat", "workload/reviews-v2", "-o", "yaml", "--since", "5m"},
		"stat-color.txt":     {"stat", "svc/ratings", "--color", "always"},
		"graph.txt":          {"graph"},
		"graph-wide.txt":     {"graph", "-o", "wide"},
		"graph.dot":          {"graph", "-o", "dot"},
		"graph.mermaid":      {"graph", "-o", "mermaid"},
		"trace.txt":          {"trace", fixedRequest},
		"policy-get.txt":     {"policy", "get"},
		"query.txt":          {"query", "up"},
		"query-wide.txt":     {"query", "up", "-o", "wide"},
		"query-matrix.txt":   {"query", "up[2s]"},
		"query-scalar.txt":   {"query", "1+1"},
		"dashboard-ui.txt":   {"dashboard", "ui"},
		"dashboard-prom.txt": {"dashboard", "prometheus", "--print-url"},
	} {
		t.Run(name, func(t *testing.T) {
			got := hub.run(t, args...)
			if got.code != 0 {
				t.Fatalf("exit code %d: %s", got.code, got.errors)
			}
			golden(t, name, got.out)
		})
	}
}

func TestJSONIsTheDocument(t *testing.T) {
	hub := newFakeHub(t)
	var g topologyv1.Graph
	if err := json.Unmarshal([]byte(hub.run(t, "graph", "-o", "json", "--window", "5m").out), &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Nodes) != 7 || len(g.Edges) != 7 || g.WindowSeconds != 300 {
		t.Errorf("graph of %d nodes, %d edges, %ds, want 7, 7, 300s", len(g.Nodes), len(g.Edges), g.WindowSeconds)
	}
	var tr topologyv1.Trace
	if err := json.Unmarshal([]byte(hub.run(t, "trace", fixedTrace, "-o", "json").out), &tr); err != nil {
		t.Fatal(err)
	}
	if len(tr.Hops) != 4 || tr.RequestID != fixedRequest {
		t.Errorf("trace %s with %d hops", tr.RequestID, len(tr.Hops))
	}
	var status struct {
		Worst statRow `json:"worst"`
	}
	if err := yaml.Unmarshal([]byte(hub.run(t, "status", "-o", "yaml").out), &status); err != nil {
		t.Fatal(err)
	}
	if status.Worst.Name != "ratings" {
		t.Errorf("worst service %q, want ratings", status.Worst.Name)
	}
}

func TestExitCodes(t *testing.T) {
	hub := newFakeHub(t)
	away := httptest.NewServer(http.NotFoundHandler())
	away.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	for _, tc := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"no hub", []string{"--hub", away.URL, "status"}, CodeUnreachable, []string{"no hub answers at", "meshctl up", "MESHCTL_HUB"}},
		{"no hub for version", []string{"--hub", away.URL, "version"}, CodeUnreachable, []string{"no hub answers at"}},
		{"no hub for the UI", []string{"--hub", away.URL, "dashboard", "ui"}, CodeUnreachable, []string{"no hub answers at"}},
		{"no hub for a tap", []string{"--hub", away.URL, "tap"}, CodeUnreachable, []string{"no hub answers at"}},
		{"another server", []string{"--hub", other.URL, "trace", fixedTrace}, CodeFailure, []string{"does not answer like a hub", "--hub"}},
		{"unknown command", []string{"stauts"}, CodeUsage, []string{`unknown command "stauts"`, "did you mean stat or status"}},
		{"unknown subcommand", []string{"policy", "lnit"}, CodeUsage, []string{"did you mean lint"}},
		{"unknown flag", []string{"stat", "--nosuch"}, CodeUsage, []string{"unknown flag", "meshctl stat --help"}},
		{"bad output", []string{"stat", "-o", "xml"}, CodeUsage, []string{"table, wide, json"}},
		{"bad color", []string{"--color", "pink", "stat"}, CodeUsage, []string{"auto, always or never"}},
		{"bad window", []string{"stat", "--window", "1h"}, CodeUsage, []string{"15m"}},
		{"bad hub", []string{"--hub", "ftp://x", "stat"}, CodeUsage, []string{"is not one like"}},
		{"bad status", []string{"tap", "--status", "6xx"}, CodeUsage, []string{"5xx, error, denied or throttled"}},
		{"too few arguments", []string{"trace"}, CodeUsage, []string{"want one request ID"}},
		{"window and since", []string{"stat", "--window", "1m", "--since", "2m"}, CodeUsage, []string{"--window and --since"}},
		{"unknown workload", []string{"stat", "rewiews"}, CodeFailure, []string{"rewiews", "workload/reviews-v1", "service/ratings"}},
		{"conversion with losses", []string{"policy", "convert", "../../../../policy-check/convert/testdata/gateway.yaml"}, CodeProblems, []string{"spec.loadBalancer: this field is not carried over", "meshctl policy lint"}},
		{"descriptor without a meaning", []string{"policy", "convert", "x.yaml", "--descriptor", "user"}, CodeUsage, []string{"want KEY=EXPRESSION"}},
		{"unknown policy", []string{"policy", "get", "x"}, CodeFailure, []string{`no policy "x"`}},
		{"bad PromQL", []string{"query", "sum("}, CodeFailure, []string{"bad_data", "check the expression"}},
		{"Grafana without token", []string{"dashboard", "grafana", "--grafana-url", "http://127.0.0.1:1"}, CodeUsage, []string{"GRAFANA_TOKEN"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := tc.args
			if args[0] != "--hub" {
				args = append([]string{"--hub", hub.URL}, args...)
			}
			got := (&world{}).run(t, args...)
			if got.code != tc.code {
				t.Errorf("exit code %d, want %d", got.code, tc.code)
			}
			for _, want := range tc.says {
				if !strings.Contains(got.errors, want) {
					t.Errorf("stderr %q lacks %q", got.errors, want)
				}
			}
		})
	}
}

func TestTraceWaitsForRecords(t *testing.T) {
	hub := newFakeHub(t)
	hub.missing.Store(2)
	if got := hub.run(t, "trace", fixedRequest, "--wait", "1m"); got.code != 0 || !strings.Contains(got.out, "ratings-v1") {
		t.Errorf("exit code %d, %s%s", got.code, got.out, got.errors)
	}
}

func TestTraceSaysWhereItLooked(t *testing.T) {
	hub := newFakeHub(t)
	got := hub.run(t, "trace", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "--wait", "0s")
	if got.code != CodeFailure || got.out != "" {
		t.Errorf("exit code %d, stdout %q", got.code, got.out)
	}
	golden(t, "trace-not-found.txt", got.errors)
}

func TestVersionListsAllAndWarnsOfSkew(t *testing.T) {
	got := newFakeHub(t).run(t, "version")
	// Header, meshctl, hub and eight sidecars.
	if got.code != 0 || strings.Count(got.out, "\n") != 11 || !strings.Contains(got.out, version.String()) {
		t.Errorf("exit code %d, %s", got.code, got.out)
	}
	if !strings.Contains(got.errors, "mesh-proxy ratings-v1-b has version 0.3.0 and the hub 0.1.0") || strings.Count(got.errors, "warning") != 1 {
		t.Errorf("stderr %q", got.errors)
	}
}

func TestBrowserOpensOnlyForAPerson(t *testing.T) {
	hub := newFakeHub(t)
	for _, tc := range []struct {
		tty  bool
		args []string
		want int
	}{
		{true, []string{"dashboard", "ui"}, 1},
		{false, []string{"dashboard", "ui"}, 0},
		{true, []string{"dashboard", "ui", "--print-url"}, 0},
	} {
		w := &world{tty: tc.tty, env: map[string]string{"MESHCTL_HUB": hub.URL}}
		got := w.run(t, tc.args...)
		if got.code != 0 || got.out != hub.URL+"/\n" || len(w.opened) != tc.want {
			t.Errorf("%v: exit code %d, %q, opened %v, want %d", tc.args, got.code, got.out, w.opened, tc.want)
		}
	}
}

func TestColorHeedsNoColor(t *testing.T) {
	hub := newFakeHub(t)
	for _, tc := range []struct {
		env  string
		tty  bool
		want bool
	}{{"", true, true}, {"1", true, false}, {"", false, false}} {
		w := &world{tty: tc.tty, env: map[string]string{"NO_COLOR": tc.env, "MESHCTL_HUB": hub.URL}}
		if got := strings.Contains(w.run(t, "stat").out, "\x1b["); got != tc.want {
			t.Errorf("NO_COLOR=%q, terminal %t: colour %t, want %t", tc.env, tc.tty, got, tc.want)
		}
	}
}

func TestGrafanaFilesAndPush(t *testing.T) {
	hub := newFakeHub(t)
	dir := filepath.Join(t.TempDir(), "boards")
	got := hub.run(t, "dashboard", "grafana", "--dir", dir)
	if got.code != 0 || !strings.Contains(got.out, "GF_PATHS_PROVISIONING") || !strings.Contains(got.out, "http://hub:15080") {
		t.Errorf("exit code %d, %s%s", got.code, got.out, got.errors)
	}
	boards, err := filepath.Glob(filepath.Join(dir, "boards", "*.json"))
	// Mesh, hub, four services that are called, seven workloads.
	if err != nil || len(boards) != 13 {
		t.Errorf("%d boards, %v, want 13", len(boards), err)
	}
	if _, err := os.Stat(filepath.Join(dir, "provisioning", "datasources", "telemesh.yaml")); err != nil {
		t.Error(err)
	}
	failed := hub.run(t, "dashboard", "grafana", "--grafana-url", hub.URL, "--token", "t")
	if failed.code != CodeFailure || !strings.Contains(failed.errors, "role Admin") {
		t.Errorf("push to what is no Grafana: exit code %d, %s", failed.code, failed.errors)
	}
}

func TestEveryCommandHasExamples(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() != "help" && (c.Example == "" || c.Short == "") {
			t.Errorf("%s has no example or no summary", c.CommandPath())
		}
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk(Root(Streams{Getenv: func(string) string { return "" }}))
}

func TestCompletionOffersLiveNames(t *testing.T) {
	got := newFakeHub(t).run(t, "__complete", "stat", "")
	if !strings.Contains(got.out, "workload/reviews-v3\n") || !strings.Contains(got.out, "service/ratings\n") {
		t.Errorf("completion %q %s", got.out, got.errors)
	}
}
