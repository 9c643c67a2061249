package extauthz

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	policy "github.com/telemesh/telemesh/policy-check"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const policies = `
apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: ledger, namespace: bank}
spec:
  targetRefs: [{kind: Service, name: ledger}]
  rules:
  - name: no-plaintext
    match: source.principal == ""
    access: {action: Deny}
    response: {status: 401, body: '{"why": "no certificate"}'}
  - name: teapots
    match: request.useragent == "teapot"
    access: {action: Deny}
    response: {status: 418}
  - {name: web-reads, match: 'source.namespace == "shop" && request.method in ["GET", "HEAD"]', access: {action: Allow}}
  - {name: admins, match: 'request.headers["x-role"] == "admin" && request.url_path.startsWith("/admin/")', access: {action: Allow}}
  - {name: slow, limit: {rates: [{limit: 1, window: 1s}]}}
---
apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: all, namespace: bank}
spec:
  targetRefs: [{kind: Namespace, name: bank}]
  rules:
  - {name: no-delete, match: request.method == "DELETE", access: {action: Deny}}
---
apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: out, namespace: bank}
spec:
  targetRefs: [{kind: Service, name: egress}]
  side: Outbound
  rules:
  - {name: nothing, access: {action: Deny}}
---
apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: half, namespace: bank}
spec:
  targetRefs: [{kind: Service, name: half}]
  enforcePercent: 50
  rules:
  - {name: never, access: {action: Deny}}
---
apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: shadow, namespace: other}
spec:
  targetRefs: [{kind: Service, name: shadow}]
  mode: Shadow
  rules:
  - {name: by-id, match: request.id == "x", access: {action: Deny}}
`

func server(t testing.TB) *Server {
	t.Helper()
	ps, problems := policy.Parse("test.yaml", []byte(policies))
	for _, p := range problems {
		t.Fatal(p)
	}
	draws := 0
	s := NewServer(Options{Rand: func() float64 { draws++; return float64(draws%2) * 0.9 }})
	if err := s.SetPolicies(ps); err != nil {
		t.Fatal(err)
	}
	return s
}

// request is what Envoy sends: "METHOD PATH" and headers, from a principal.
func request(to, principal, line string, headers ...string) *authv3.CheckRequest {
	method, path, _ := strings.Cut(line, " ")
	http := &authv3.AttributeContext_HttpRequest{
		Method: method, Path: path, Host: "anything.example", Scheme: "http", Protocol: "HTTP/1.1", Headers: map[string]string{},
	}
	for i := 0; i < len(headers); i += 2 {
		http.Headers[headers[i]] = headers[i+1]
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: map[string]string{destinationKey: to},
		Source: &authv3.AttributeContext_Peer{
			Principal: principal, Service: "spoofed",
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: "192.0.2.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 4711},
			}}},
		},
		Request: &authv3.AttributeContext_Request{Http: http},
	}}
}

// spell is an answer in words.
func spell(resp *authv3.CheckResponse) string {
	out := codes.Code(resp.GetStatus().GetCode()).String()
	if d := resp.GetDeniedResponse(); d != nil {
		out += fmt.Sprintf(" %d %s", d.GetStatus().GetCode(), d.GetBody())
		for _, h := range d.GetHeaders() {
			out += " " + h.GetHeader().GetKey() + ": " + h.GetHeader().GetValue()
		}
	}
	m := resp.GetDynamicMetadata().AsMap()
	out += fmt.Sprintf("; %v", m["verdict"])
	if m["policy"] != nil {
		out += fmt.Sprintf(" by %v/%v", m["policy"], m["rule"])
	}
	if c, ok := m["cache"].(map[string]any); ok {
		out += fmt.Sprintf("; %vs for %v", c["ttl_seconds"], c["key"])
	}
	return out
}

func TestCheck(t *testing.T) {
	const (
		web, batch = "spiffe://cluster.local/ns/shop/sa/web", "spiffe://cluster.local/ns/jobs/sa/batch"
		reads      = `; 5s for [request.headers["x-role"] request.method request.url_path request.useragent source.namespace source.principal]`
		plain      = " content-type: text/plain; charset=utf-8"
	)
	for _, tc := range []struct {
		name string
		req  *authv3.CheckRequest
		want string
	}{
		{"an Allow rule that matches", request("ledger.bank", web, "GET /accounts?id=1"), "OK; ok" + reads},
		{"no Allow rule matches", request("ledger.bank", batch, "GET /accounts"),
			"PermissionDenied 403 RBAC: access denied" + plain + "; denied by bank/ledger/implicit-deny" + reads},
		{"a Deny rule with an answer of its own", request("ledger.bank", "", "GET /accounts"),
			`PermissionDenied 401 {"why": "no certificate"} content-type: application/json; denied by bank/ledger/no-plaintext` + reads},
		{"a status that Envoy does not know", request("ledger.bank", web, "GET /", "user-agent", "teapot"),
			"PermissionDenied 403 RBAC: access denied" + plain + "; denied by bank/ledger/teapots" + reads},
		{"headers and path", request("ledger.bank", batch, "POST /admin/x?y", "x-role", "admin"), "OK; ok" + reads},
		{"a service that only its namespace has rules for", request("other.bank", "", "DELETE /"),
			"PermissionDenied 403 RBAC: access denied" + plain + "; denied by bank/all/no-delete; 5s for [request.method]"},
		{"the namespace's rules and the service's", request("ledger.bank", web, "DELETE /"),
			"PermissionDenied 403 RBAC: access denied" + plain + "; denied by bank/all/no-delete" + reads},
		{"a whole host", request("ledger.bank.svc.cluster.local", web, "GET /"), "OK; ok" + reads},
		{"a namespace without policies", request("ledger.shop", "", "DELETE /"), "OK; ok; 5s for []"},
		{"outbound rules are the caller's own", request("egress.bank", "", "GET /"), "OK; ok; 5s for [request.method]"},
		{"shadow says what it would do, and a request ID does not come twice", request("shadow.other", "", "GET /", "x-request-id", "x"),
			"OK; shadow_denied by other/shadow/by-id"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := server(t)
			for range 3 { // a limit that is spent would show
				resp, err := s.Check(t.Context(), tc.req)
				if err != nil {
					t.Fatal(err)
				}
				if got := spell(resp); got != tc.want {
					t.Errorf("got  %s\nwant %s", got, tc.want)
				}
				if err := resp.ValidateAll(); err != nil {
					t.Errorf("Envoy refuses the answer: %v", err)
				}
			}
		})
	}
}

func TestADrawnDecisionIsNotCached(t *testing.T) {
	s := server(t)
	var got []string
	for range 2 {
		resp, err := s.Check(t.Context(), request("half.bank", "", "GET /"))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, spell(resp))
	}
	if !strings.HasPrefix(got[0], "OK; shadow_denied") || !strings.HasPrefix(got[1], "PermissionDenied") ||
		strings.Contains(got[0]+got[1], "5s for") {
		t.Errorf("half of the requests: %q", got)
	}
}

func TestARequestWithoutADestinationHasNoAnswer(t *testing.T) {
	s := server(t)
	for name, req := range map[string]*authv3.CheckRequest{
		"empty": {}, "no extension": request("", "", "GET /"), "no namespace": request("ledger", "", "GET /"), "no name": request(".bank", "", "GET /"),
	} {
		if _, err := s.Check(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := s.Stats().Invalid; n != 4 {
		t.Errorf("%d invalid, want 4", n)
	}
}

func TestRawHeadersAndQuery(t *testing.T) {
	req := request("ledger.bank", "p", "POST /admin/x")
	http := req.GetAttributes().GetRequest().GetHttp()
	http.Headers, http.Query, http.Protocol = nil, "a=b", "HTTP/2"
	http.HeaderMap = &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
		{Key: "x-role", RawValue: []byte("admin")}, {Key: "x-two", Value: "1"}, {Key: "x-two", RawValue: []byte("2")},
	}}
	a := attributes(req.GetAttributes(), service{"bank", "ledger"})
	if a.Header("x-role") != "admin" || a.Header("x-two") != "1,2" || a.Header("x-none") != "" || a.Path != "/admin/x?a=b" || a.Protocol != "HTTP/2.0" || a.SourceAddress != "192.0.2.1:4711" {
		t.Errorf("attributes %+v", a)
	}
}

func TestAChangedPolicyChangesTheAnswers(t *testing.T) {
	s := server(t)
	decide := func(to string) string {
		t.Helper()
		resp, err := s.Check(t.Context(), request(to, "p", "DELETE /"))
		if err != nil {
			t.Fatal(err)
		}
		return codes.Code(resp.GetStatus().GetCode()).String()
	}
	if got := decide("other.bank") + decide("ledger.bank"); got != "PermissionDeniedPermissionDenied" {
		t.Errorf("before: %s", got)
	}
	// The namespace's policy no longer minds; the service has Allow rules.
	ps, problems := policy.Parse("test.yaml", []byte(strings.Replace(policies, `"DELETE"`, `"TRACE"`, 1)))
	for _, p := range problems {
		t.Fatal(p)
	}
	if err := s.SetPolicies(ps); err != nil {
		t.Fatal(err)
	}
	if got := decide("other.bank") + " " + decide("ledger.bank"); got != "OK PermissionDenied" {
		t.Errorf("after: %s", got)
	}
	resp, err := s.Check(t.Context(), request("ledger.bank", "p", "DELETE /"))
	if err != nil || resp.GetDynamicMetadata().AsMap()["rule"] != "implicit-deny" {
		t.Errorf("the service still has the namespace's old rule: %v, %v", resp, err)
	}
}

func TestCountersOutliveTheirPolicies(t *testing.T) {
	s := server(t)
	ask := func() {
		t.Helper()
		if _, err := s.Check(t.Context(), request("ledger.bank", "", "GET /")); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	if err := s.SetPolicies(nil); err != nil {
		t.Fatal(err)
	}
	ask()
	st := s.Stats()
	if st.Denied != 1 || st.Allowed != 1 || len(st.Rules) != 1 || st.Rules[0].Rule != "no-plaintext" || st.Rules[0].Count != 1 {
		t.Errorf("%+v", st)
	}
}

func TestPoliciesChangeWhileRequestsAreDecided(t *testing.T) {
	s := server(t)
	ps, _ := policy.Parse("test.yaml", []byte(policies))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				resp, err := s.Check(t.Context(), request("ledger.bank", "", "GET /"))
				if err != nil || resp.GetDeniedResponse() == nil {
					t.Errorf("denied request: %v, %v", resp, err)
					return
				}
			}
		})
	}
	for range 5 {
		if err := s.SetPolicies(ps); err != nil {
			t.Error(err)
		}
		s.Stats()
	}
	wg.Wait()
}

// FuzzCheck answers any bytes that are a request.
func FuzzCheck(f *testing.F) {
	for _, req := range []*authv3.CheckRequest{request("ledger.bank", "p", "GET /?a"), request("x.bank", "", "DELETE /"), {}} {
		b, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	s := server(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		req := &authv3.CheckRequest{}
		if proto.Unmarshal(data, req) != nil {
			return
		}
		resp, err := s.Check(t.Context(), req)
		if err != nil {
			if status.Code(err) != codes.InvalidArgument {
				t.Fatal(err)
			}
			return
		}
		if err := resp.ValidateAll(); err != nil {
			t.Fatalf("Envoy refuses the answer: %v", err)
		}
		if _, err := proto.Marshal(resp); err != nil {
			t.Fatalf("answer can't be sent: %v", err)
		}
	})
}
