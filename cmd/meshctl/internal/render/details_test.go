package render

import (
	"strings"
	"testing"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

func TestDetails(t *testing.T) {
	trace := &topologyv1.Trace{Hops: []topologyv1.Hop{{
		Source: "default/a", Destination: "default/b",
		Client: &topologyv1.Record{Details: &topologyv1.Details{
			Request:  &topologyv1.Head{Line: "GET /\x1b[31m HTTP/1.1", Fields: []topologyv1.HeaderField{{Name: "Cookie", Value: "[redacted, 3 bytes]", Redacted: true}}, Truncated: true},
			Response: &topologyv1.Head{Fields: []topologyv1.HeaderField{{Name: ":status", Value: "503"}}},
			Attempts: []topologyv1.Attempt{
				{Upstream: "10.0.0.1:80", ConnectMs: 1, DurationMs: 1, Result: "connect_failure", Detail: "refused"},
				{Upstream: "10.0.0.2:80", OffsetMs: 1, FirstByteMs: 10, DurationMs: 11, Code: 200, GRPCStatus: "14", Result: "ok"},
			},
			Decisions: []topologyv1.Decision{{Verdict: "ok", DurationMs: 0.5}, {Policy: "shop/limit", Rule: "all", Verdict: "throttled", DurationMs: 0.5}},
		}},
		Server: &topologyv1.Record{DetailsMissing: "sidecar b-1 is not connected"},
	}}}
	var b strings.Builder
	if err := Details(&b, trace, Style{Width: 100}); err != nil {
		t.Fatal(err)
	}
	out := b.String()
	for _, want := range []string{
		"a → default/b (client side)\n", "attempt 1 to 10.0.0.1:80 at 0.00ms: connect_failure after 1.00ms, connected in 1.00ms (refused)\n",
		"attempt 2 to 10.0.0.2:80 at 1.00ms: grpc 14 after 11.0ms, first byte after 10.0ms\n", "policy ok, no rule had anything against it, in 0.50ms\n",
		"policy throttled, by shop/limit/all, in 0.50ms\n", "    Cookie: [redacted, 3 bytes]\n", "    … the rest was too long", "  response\n    :status: 503\n",
		"(server side)\n  no details: sidecar b-1 is not connected\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("a header reaches the terminal as it came: %q", out)
	}
}
