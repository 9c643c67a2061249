package accesslog

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/identity"
)

type fakeHeader map[string]string

func (f fakeHeader) At(name string, i int) (string, bool) {
	value := f.Get(name)
	return value, i == 0 && value != ""
}

func (f fakeHeader) Get(name string) string { return f[strings.ToLower(name)] }
func (f fakeHeader) Set(name, value string) { f[strings.ToLower(name)] = value }
func (f fakeHeader) Add(name, value string) { f.Set(name, value) }
func (f fakeHeader) Del(name string)        { delete(f, strings.ToLower(name)) }

func (fakeHeader) AppendHead(dst []byte, _ int) ([]byte, exchange.HeadForm, bool) {
	return dst, exchange.NoHead, true
}

// answered is a request that an upstream answered.
func answered() *exchange.Exchange {
	x := &exchange.Exchange{
		Direction: exchange.Outbound, Scheme: "http", Downstream: "10.0.0.1:41234", DownstreamLocal: "10.0.0.9:9080", UpstreamLocal: "10.0.0.1:55555",
		Request:  fakeHeader{"x-forwarded-for": "192.0.2.7", "x-request-id": "3d1f6c80-6a0e-4c0a-9f0e-0123456789ab", "user-agent": "curl/8"},
		Response: fakeHeader{"content-type": "text/plain"},
	}
	r := &x.Record
	r.Start = time.Date(2026, 3, 4, 5, 6, 7, 89_000_000, time.UTC)
	r.Duration, r.FirstByte = 12*time.Millisecond, 9*time.Millisecond
	r.HTTPVersion, r.Method, r.Path, r.Host = "HTTP/1.1", "GET", "/reviews/0?a=b", "reviews:9080"
	r.Route, r.Code, r.BytesIn, r.BytesOut, r.Attempts = "outbound|reviews.default.svc.cluster.local", 200, 120, 295, 1
	r.Upstream, r.UserAgent, r.Protocol = "10.0.0.2:15006", "curl/8", "http"
	r.TraceID = [16]byte{0x3d, 0x1f, 0x6c, 0x80, 0x6a, 0x0e, 0x4c, 0x0a, 0x9f, 0x0e, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab}
	return x
}

// unroutable is one that none did.
func unroutable() *exchange.Exchange {
	x := &exchange.Exchange{Downstream: "10.0.0.1:41234", Request: fakeHeader{}}
	r := &x.Record
	r.Start = time.Date(2026, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
	r.HTTPVersion, r.Method, r.Path, r.Host = "HTTP/2.0", "POST", "/", "nowhere"
	r.Code, r.Flags, r.Detail, r.BytesOut = 404, "NR", "route_not_found", 60
	return x
}

func text(t *testing.T, format string, x *exchange.Exchange) string {
	t.Helper()
	pieces, err := compile(format)
	if err != nil {
		t.Fatalf("%s: %v", format, err)
	}
	return string(appendText(nil, pieces, x))
}

func TestDefaultLines(t *testing.T) {
	for _, tc := range []struct {
		name, format string
		x            *exchange.Exchange
		want         string
	}{
		{"Istio", IstioText, answered(), `[2026-03-04T05:06:07.089Z] "GET /reviews/0?a=b HTTP/1.1" 200 - via_upstream - "-" 120 295 12 9 "192.0.2.7" "curl/8" "3d1f6c80-6a0e-4c0a-9f0e-0123456789ab" "reviews:9080" "10.0.0.2:15006" outbound|reviews.default.svc.cluster.local 10.0.0.1:55555 10.0.0.9:9080 10.0.0.1:41234 - outbound|reviews.default.svc.cluster.local` + "\n"},
		{"Istio, no route", IstioText, unroutable(), `[2026-12-31T23:59:59.999Z] "POST / HTTP/2" 404 NR route_not_found - "-" 0 60 0 - "-" "-" "-" "nowhere" "-" - - - 10.0.0.1:41234 - -` + "\n"},
		{"Envoy", EnvoyText, answered(), `[2026-03-04T05:06:07.089Z] "GET /reviews/0?a=b HTTP/1.1" 200 - 120 295 12 9 "192.0.2.7" "curl/8" "3d1f6c80-6a0e-4c0a-9f0e-0123456789ab" "reviews:9080" "10.0.0.2:15006"` + "\n"},
		{"Envoy, no head", EnvoyText, &exchange.Exchange{}, `[0001-01-01T00:00:00.000Z] "- - -" 0 - 0 0 0 - "-" "-" "-" "-" "-"` + "\n"},
	} {
		if got := text(t, tc.format, tc.x); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, tc.want)
		}
	}
}

func TestJSONLines(t *testing.T) {
	members, err := compileJSON(IstioJSON())
	if err != nil {
		t.Fatal(err)
	}
	got := string(appendJSON(nil, members, answered()))
	want := `{"authority":"reviews:9080","bytes_received":120,"bytes_sent":295,"connection_termination_details":null,"downstream_local_address":"10.0.0.9:9080","downstream_remote_address":"10.0.0.1:41234","duration":12,"method":"GET","path":"/reviews/0?a=b","protocol":"HTTP/1.1","request_id":"3d1f6c80-6a0e-4c0a-9f0e-0123456789ab","requested_server_name":null,"response_code":200,"response_code_details":"via_upstream","response_flags":"-","route_name":"outbound|reviews.default.svc.cluster.local","start_time":"2026-03-04T05:06:07.089Z","upstream_cluster":"outbound|reviews.default.svc.cluster.local","upstream_host":"10.0.0.2:15006","upstream_local_address":"10.0.0.1:55555","upstream_service_time":"9","upstream_transport_failure_reason":null,"user_agent":"curl/8","x_forwarded_for":"192.0.2.7"}` + "\n"
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}

	members, err = compileJSON(map[string]string{"line": "%REQ(:METHOD)% \"%REQ(:PATH)%\"", "a\"b": "%RESP(X)%", "gone": "x%RESP(Y)%", "cut": "%REQ(:PATH):3%"})
	if err != nil {
		t.Fatal(err)
	}
	x := answered()
	x.Record.Path = "/\"\\\x01\xff\u00e9"
	x.Response.Set("x", "\xc3")
	got = string(appendJSON(nil, members, x))
	var parsed map[string]string
	if err := json.Unmarshal([]byte(got), &parsed); err != nil {
		t.Errorf("%s is not JSON: %v", got, err)
	}
	if parsed["line"] != "GET \"/\"\\\\x01\ufffdé\"" || parsed["cut"] != `/"\` || parsed["gone"] != "x-" || parsed[`a"b`] != "\ufffd" {
		t.Errorf("%s\nreads as %q", got, parsed)
	}
}

func TestOperators(t *testing.T) {
	grpc := answered()
	grpc.Record.GRPCStatus = 15
	x := answered()
	x.Source = &identity.Peer{Principal: "spiffe://a/ns/b/sa/c"}
	x.Response.Set("x-envoy-upstream-service-time", "77")
	for _, tc := range []struct {
		format string
		x      *exchange.Exchange
		want   string
	}{
		{"100%% %REQ(:METHOD)%%%", x, "100% GET%"},
		{"%REQ(X-NONE?X-FORWARDED-FOR)%", x, "192.0.2.7"},
		{"%REQ(X-NONE?Y-NONE):5%", x, "-"},
		{"%REQ(X-REQUEST-ID):8%", x, "3d1f6c80"},
		{"%REQ(:AUTHORITY)%|%REQ(Host)%|%REQ(:SCHEME)%", x, "reviews:9080|reviews:9080|http"},
		{"%RESP(Content-Type)%", x, "text/plain"},
		{"%RESP(X-Envoy-Upstream-Service-Time)%", x, "77"},
		{"%START_TIME(%Y/%m/%dT%H:%M:%S%z %s %3f %f %%)%", x, "2026/03/04T05:06:07+0000 1772600767 089 089000000 %"},
		{"%START_TIME(%b %e %F %T)%", x, "Mar  4 2026-03-04 05:06:07"},
		{"%TRACE_ID% %STREAM_ID%", x, "3d1f6c806a0e4c0a9f0e0123456789ab 3d1f6c80-6a0e-4c0a-9f0e-0123456789ab"},
		{"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", x, "10.0.0.1"},
		{"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", &exchange.Exchange{Downstream: "[::1]:80"}, "::1"},
		{"%RESPONSE_DURATION% %RESPONSE_TX_DURATION% %UPSTREAM_REQUEST_ATTEMPT_COUNT%", x, "9 3 1"},
		{"%RESPONSE_DURATION% %RESPONSE_TX_DURATION%", unroutable(), "- -"},
		{"%GRPC_STATUS% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%", grpc, "Unavailable 14 14"},
		{"%GRPC_STATUS% %GRPC_STATUS_NUMBER%", x, "- -"},
		{"%DOWNSTREAM_PEER_URI_SAN% %UPSTREAM_PEER_URI_SAN%", x, "spiffe://a/ns/b/sa/c -"},
		{"%REQ(:PATH)%", &exchange.Exchange{Request: fakeHeader{}}, "-"},
	} {
		if got := text(t, tc.format, tc.x); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.format, got, tc.want)
		}
	}
	x.Record.UserAgent = "a\nb\x7f\tc"
	if got := text(t, "%REQ(USER-AGENT)%", x); got != `a\x0ab\x7f\x09c` {
		t.Errorf("control characters: %q", got)
	}
}

func TestBadFormatsAreRefusedWithTheirPosition(t *testing.T) {
	for format, want := range map[string]string{
		"a %NOPE% b":                "position 3: unknown operator %NOPE%",
		"%PROTOCOL":                 "position 1: % begins an operator that does not end",
		"50 % off":                  "position 4: % begins an operator that does not end",
		"%REQ(X%":                   "position 5: ( without )",
		"%REQ()%":                   "position 1: %REQ% wants a header",
		"%REQ%":                     "position 1: %REQ% wants a header",
		"%PROTOCOL(x)%":             "position 1: %PROTOCOL% takes no argument",
		"%REQ(X):%":                 "position 8: want a length",
		"%REQ(X):0%":                "position 8: want a length",
		"%START_TIME(%Q)%":          `"%Q" is not supported at offset 0`,
		"%START_TIME(%)%":           `"%" is not supported at offset 0`,
		"%GRPC_STATUS(X)%":          "want CAMEL_STRING or NUMBER",
		"%DYNAMIC_METADATA(a:b)%":   "unknown operator %DYNAMIC_METADATA%",
		"x%REQ(A)%y%TRAILER(B)%zzz": "position 11: unknown operator %TRAILER%",
	} {
		if _, err := compile(format); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", format, err, want)
		}
	}
	if _, err := compileJSON(map[string]string{"a": "%X%"}); err == nil || !strings.Contains(err.Error(), `key "a", position 1`) {
		t.Errorf("JSON: %v", err)
	}
}

func TestEncodingDoesNotAllocate(t *testing.T) {
	x := answered()
	x.Request = fastHeader{}
	x.Response = fastHeader{}
	pieces, _ := compile(IstioText)
	members, _ := compileJSON(IstioJSON())
	buf := make([]byte, 0, 8192)
	for name, encode := range map[string]func(){
		"text": func() { buf = appendText(buf[:0], pieces, x) },
		"JSON": func() { buf = appendJSON(buf[:0], members, x) },
	} {
		if n := testing.AllocsPerRun(1000, encode); n != 0 {
			t.Errorf("%s: %v allocations a line, want 0", name, n)
		}
	}
}

type fastHeader struct{}

func (fastHeader) Get(string) string             { return "value" }
func (fastHeader) At(string, int) (string, bool) { return "value", true }

func (fastHeader) Set(string, string) {}
func (fastHeader) Add(string, string) {}
func (fastHeader) Del(string)         {}

func (fastHeader) AppendHead(dst []byte, _ int) ([]byte, exchange.HeadForm, bool) {
	return dst, exchange.NoHead, true
}

func FuzzCompile(f *testing.F) {
	f.Add(IstioText)
	f.Add("%START_TIME(%Y %3f)% %REQ(A?B):3% %%")
	f.Fuzz(func(_ *testing.T, format string) {
		if pieces, err := compile(format); err == nil {
			appendText(nil, pieces, answered())
		}
	})
}

func FuzzJSONLine(f *testing.F) {
	f.Add("/a\"\\\x00\xffé")
	members, _ := compileJSON(map[string]string{"a": "%REQ(:PATH)%", "b": "x%REQ(:PATH)%", "c": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"})
	f.Fuzz(func(t *testing.T, s string) {
		x := answered()
		x.Record.Path = s
		x.Response = fakeHeader{serviceTime: s}
		if line := appendJSON(nil, members, x); !json.Valid(line) {
			t.Errorf("%q gives %s", s, line)
		}
	})
}

func BenchmarkIstioText(b *testing.B) {
	x := answered()
	pieces, _ := compile(IstioText)
	buf := make([]byte, 0, 8192)
	for b.Loop() {
		buf = appendText(buf[:0], pieces, x)
	}
}

func BenchmarkIstioJSON(b *testing.B) {
	x := answered()
	members, _ := compileJSON(IstioJSON())
	buf := make([]byte, 0, 8192)
	for b.Loop() {
		buf = appendJSON(buf[:0], members, x)
	}
}
