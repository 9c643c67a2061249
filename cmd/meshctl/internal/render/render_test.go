package render

import (
	"strings"
	"testing"
	"unicode/utf8"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

func TestNumbers(t *testing.T) {
	for _, tc := range []struct{ got, want string }{
		{Millis(0), "0.00ms"}, {Millis(-1), "-"}, {Millis(9.96), "10.0ms"}, {Millis(99.96), "100ms"}, {Millis(999.6), "1.00s"},
		{Success(topologyv1.Signals{}), "-"},
		{Success(topologyv1.Signals{Requests: 1_000_000, ErrorShare: 1e-6}), "99.99%"},
		{Success(topologyv1.Signals{Requests: 3}), "100.00%"},
		{Share(0), "0.0%"}, {Share(1e-6), "0.1%"}, {Share(.15), "15.0%"},
		{Bytes(1023), "1023B"}, {Bytes(1 << 40), "1.0TiB"}, {Bytes(1 << 63), "8192.0PiB"},
		{Age(5000, 0), "never"}, {Age(1000, 2000), "0ms"}, {Age(3_600_000*49+1, 1), "2d1h"},
		{Count(1, "batch"), "1 batch"}, {Count(2, "batch"), "2 batches"}, {Count(0, "policy"), "0 policies"},
		{Clean("a\x1b[2J\nb\u202ec"), "a\ufffd[2J\ufffdb\ufffdc"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q", tc.got, tc.want)
		}
	}
}

// sideways is a request whose sides lie before, within and after the trace, as
// the clocks of three machines may have it.
func sideways(path string) *topologyv1.Trace {
	rec := func(start int64, ms float64) *topologyv1.Record {
		return &topologyv1.Record{StartUnixNano: start * 1e6, DurationMs: ms, Method: "GET", Path: path, Code: 200, Verdict: "ok"}
	}
	return &topologyv1.Trace{StartUnixNano: 1000 * 1e6, DurationMs: 10, Hops: []topologyv1.Hop{
		{Client: rec(1000, 10), Server: rec(900, 5), Source: "a", Destination: "b"},
		{Depth: 40, Client: rec(5000, 1), Source: "b", Destination: "c"},
	}}
}

func TestWaterfallFitsAnyTerminal(t *testing.T) {
	for _, width := range []int{90, 120, 300} {
		var b strings.Builder
		if err := Waterfall(&b, sideways("/"+strings.Repeat("long/", 50)), Style{Width: width}); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(b.String(), "\n")
		for _, l := range lines {
			if n := utf8.RuneCountInString(l); n > width {
				t.Errorf("line of %d columns in %d: %s", n, width, l)
			}
		}
		if bars := strings.Count(b.String(), "█"); bars < 3 {
			t.Errorf("width %d: a side has no bar:\n%s", width, b.String())
		}
		if !strings.Contains(b.String(), "no record: this side reported nothing") {
			t.Errorf("width %d: the side that is missing is not named", width)
		}
	}
}

func TestWaterfallOfNothing(t *testing.T) {
	for _, trace := range []*topologyv1.Trace{{}, {Hops: []topologyv1.Hop{{}}}} {
		var b strings.Builder
		if err := Waterfall(&b, trace, Style{}); err != nil || !strings.Contains(b.String(), "hop") {
			t.Errorf("%v: %q", err, b.String())
		}
	}
}

func TestGraphLanguagesQuoteNames(t *testing.T) {
	g := &topologyv1.Graph{Nodes: []topologyv1.Node{{ID: `a"\`, Kind: "unknown", Health: topologyv1.Idle}}}
	var dot, mermaid strings.Builder
	if err := Dot(&dot, g); err != nil || !strings.Contains(dot.String(), `"a\"\\" [label="a\"\\\nidle"`) {
		t.Errorf("%v: %s", err, dot.String())
	}
	if err := Mermaid(&mermaid, g); err != nil || !strings.Contains(mermaid.String(), `n0["a#quot;\"]:::idle`) {
		t.Errorf("%v: %s", err, mermaid.String())
	}
}

func TestNamesThatCollideGetTheirNamespace(t *testing.T) {
	names := NodeNames([]topologyv1.Node{
		{ID: "a/web", Kind: "workload", Namespace: "a", Workload: "web"},
		{ID: "b/web", Kind: "workload", Namespace: "b", Workload: "web"},
		{ID: "b/db", Kind: "workload", Namespace: "b", Workload: "db"},
	})
	if names["a/web"] != "a/web" || names["b/web"] != "b/web" || names["b/db"] != "db" {
		t.Errorf("names %v", names)
	}
}
