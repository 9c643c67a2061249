package authz

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
)

var api = Workload{Namespace: "shop", Service: "api", Labels: map[string]string{"app": "api"}}

// enforce returns an enforcer with the policies of a text.
func enforce(tb testing.TB, o Options, text string) *Enforcer {
	tb.Helper()
	rs, problems := Parse("f.yaml", []byte(text))
	if len(problems) > 0 {
		tb.Fatal(problems)
	}
	if o.Workload.Service == "" {
		o.Workload = api
	}
	e := New(o)
	tb.Cleanup(e.Close)
	rules, err := e.Compile(rs)
	if err != nil {
		tb.Fatal(err)
	}
	e.Use(rules)
	return e
}

func inShop(kind, name, spec string) string {
	return "---\napiVersion: security.istio.io/v1\nkind: " + kind + "\nmetadata: {name: " + name + ", namespace: shop}\nspec:\n" + spec
}

// manyPolicies are ten of three rules each; the last one allows web's GETs.
func manyPolicies() string {
	var b strings.Builder
	for i := range 9 {
		fmt.Fprintf(&b, "%s", inShop(KindAuthorizationPolicy, fmt.Sprintf("p%d", i), `  action: `+[]string{"DENY", "ALLOW", "AUDIT"}[i%3]+`
  rules:
  - from: [{source: {ipBlocks: [10.0.0.0/8], notIpBlocks: [10.1.0.0/16]}}]
    to: [{operation: {paths: ['/secret/{*}/x', '/private/*'], hosts: ['*.internal']}}]
  - to: [{operation: {methods: [TRACE], notPaths: [/health]}}]
  - when: [{key: 'request.headers[x-role]', values: [root]}, {key: remote.ip, values: [203.0.113.0/24]}]
`))
	}
	return b.String() + inShop(KindAuthorizationPolicy, "web", `  rules:
  - from: [{source: {principals: [cluster.local/ns/web/sa/front]}}]
    to: [{operation: {methods: [GET], paths: ['/items/{*}']}}]
`)
}

func webRequest(h Headers) *Request {
	return &Request{
		Method: "GET", Path: "/items/17?q=1", Host: "api.shop", Scheme: "http", Headers: h, Principal: "spiffe://cluster.local/ns/web/sa/front",
		Source: "10.2.0.1:5000", Destination: netip.MustParseAddrPort("10.0.0.9:8080"),
	}
}

func TestADecisionDoesNotAllocate(t *testing.T) {
	h := &fakeHeaders{}
	h.add("x-role", "user")
	h.add("x-forwarded-for", "198.51.100.1, 203.0.113.9")
	for name, text := range map[string]string{
		"ten policies": manyPolicies(),
		"every attribute": inShop(KindAuthorizationPolicy, "p", `  rules:
  - from:
    - source: {serviceAccounts: [x, web/front], notServiceAccounts: [web/back], trustDomains: [cluster.local], remoteIpBlocks: [203.0.113.0/24]}
    when:
    - {key: destination.ip, values: [10.0.0.0/8]}
    - {key: destination.port, values: ['8080']}
    - {key: connection.sni, notValues: [x]}
    - {key: source.namespace, values: [x, web]}
`),
	} {
		e := enforce(t, Options{}, text)
		r := webRequest(h)
		if d := e.Check(t.Context(), r); d.Verdict != vocab.VerdictOK {
			t.Fatalf("%s: %+v", name, d)
		}
		if n := testing.AllocsPerRun(1000, func() { e.Check(context.Background(), r) }); n != 0 {
			t.Errorf("%s: %v allocs/op, want 0", name, n)
		}
		r.Method = "TRACE"
		if n := testing.AllocsPerRun(1000, func() { e.Check(context.Background(), r) }); n != 0 && name == "ten policies" {
			t.Errorf("%s, denied: %v allocs/op, want 0", name, n)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	s := newSigner(b, "k")
	token := &fakeHeaders{}
	token.add("authorization", "Bearer "+s.token(nil))
	withJWT := authentication1(s, "    forwardOriginalToken: true\n") + inShop(KindAuthorizationPolicy, "p", "  rules: [{from: [{source: {requestPrincipals: ['https://id.example/*']}}]}]\n")
	for _, bm := range []struct {
		name, text string
		headers    *fakeHeaders
	}{
		{"no policy", "", &fakeHeaders{}},
		{"one policy", inShop(KindAuthorizationPolicy, "p", "  rules: [{from: [{source: {principals: [cluster.local/ns/web/sa/front]}}], to: [{operation: {methods: [GET]}}]}]\n"), &fakeHeaders{}},
		{"ten policies of three rules", manyPolicies(), &fakeHeaders{}},
		{"a token seen before", withJWT, token},
	} {
		b.Run(bm.name, func(b *testing.B) {
			e := enforce(b, Options{Clock: func() time.Time { return testTime }}, bm.text)
			r := webRequest(bm.headers)
			b.ReportAllocs()
			for b.Loop() {
				if d := e.Check(context.Background(), r); d.Status != 0 {
					b.Fatal(d)
				}
			}
		})
	}
}

func authentication1(s *signer, more string) string {
	return inShop(KindRequestAuthentication, "ra", "  jwtRules:\n  - issuer: https://id.example\n    jwks: '"+s.jwks+"'\n"+more)
}

func TestAValidTokenBecomesHeadersAndIsTakenOff(t *testing.T) {
	s := newSigner(t, "k")
	more := `    outputPayloadToHeader: X-Payload
    outputClaimToHeaders:
    - {header: X-Sub, claim: sub}
    - {header: X-Unit, claim: org.unit}
    - {header: X-Level, claim: level}
    - {header: X-On, claim: on}
    - {header: X-List, claim: list}
`
	token := s.token(map[string]any{"org": map[string]any{"unit": "mesh"}, "level": 7, "on": true, "list": []string{"a"}})
	for _, forward := range []bool{false, true} {
		e := enforce(t, Options{Clock: func() time.Time { return testTime }}, authentication1(s, more+fmt.Sprintf("    forwardOriginalToken: %v\n", forward)))
		for range 2 { // the second time from the cache
			h := &fakeHeaders{}
			h.add("authorization", "Bearer "+token)
			h.add("x-sub", "root") // what a caller claims
			h.add("x-list", "root")
			if d := e.Check(t.Context(), webRequest(h)); d.Refused() {
				t.Fatal(d)
			}
			payload, err := base64.RawURLEncoding.DecodeString(h.get("x-payload"))
			if err != nil || !strings.Contains(string(payload), `"sub":"alice"`) {
				t.Errorf("payload %q, %v", payload, err)
			}
			for name, want := range map[string]string{"x-sub": "alice", "x-unit": "mesh", "x-level": "7", "x-on": "true", "x-list": ""} {
				if got := h.get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if kept := h.get("authorization") != ""; kept != forward {
				t.Errorf("forward %v: the token is kept: %v", forward, kept)
			}
		}
		h := &fakeHeaders{}
		h.add("x-sub", "root")
		if d := e.Check(t.Context(), webRequest(h)); d.Refused() || h.get("x-sub") != "" {
			t.Errorf("without a token: %+v, x-sub %q", d, h.get("x-sub"))
		}
	}
}

func TestAnInvalidTokenIsChallenged(t *testing.T) {
	s := newSigner(t, "k")
	e := enforce(t, Options{Clock: func() time.Time { return testTime }}, authentication1(s, ""))
	h := &fakeHeaders{}
	h.add("authorization", "Bearer "+newSigner(t, "k").token(nil))
	r := webRequest(h)
	r.Path = `/a"b?q=1`
	d := e.Check(t.Context(), r)
	want := Decision{
		Verdict: vocab.VerdictDenied, Policy: "requestauthentication/shop/ra", Rule: "0", Status: 401, Body: "Jwt verification fails",
		Detail: "jwt_authn_access_denied{Jwt_verification_fails}", Challenge: `Bearer realm="http://api.shop/a%22b", error="invalid_token"`,
	}
	if d != want {
		t.Errorf("got %+v\nwant %+v", d, want)
	}
	if c := e.Counters(); len(c) != 1 || c[0] != (Counter{"requestauthentication/shop/ra", "0", vocab.DecisionDeny, 1}) {
		t.Errorf("counters %v", c)
	}
}

func TestARefusalHasEnvoysDetail(t *testing.T) {
	e := enforce(t, Options{}, manyPolicies())
	r := webRequest(&fakeHeaders{})
	r.Method = "TRACE"
	d := e.Check(t.Context(), r)
	if d.Detail != "rbac_access_denied_matched_policy[ns[shop]-policy[p0]-rule[1]]" || d.Status != 403 || d.Body != "RBAC: access denied" || d.Policy != "authorizationpolicy/shop/p0" || d.Rule != "1" {
		t.Errorf("got %+v", d)
	}
}

func TestClusterLocalIsTheMeshsTrustDomain(t *testing.T) {
	text := inShop(KindAuthorizationPolicy, "p", "  rules: [{from: [{source: {principals: [cluster.local/ns/web/sa/front]}}]}]\n")
	e := enforce(t, Options{TrustDomain: "corp.example"}, text)
	for principal, want := range map[string]bool{"spiffe://corp.example/ns/web/sa/front": true, "spiffe://cluster.local/ns/web/sa/front": false} {
		r := webRequest(&fakeHeaders{})
		r.Principal = principal
		if d := e.Check(t.Context(), r); d.Refused() == want {
			t.Errorf("%s: refused %v", principal, d.Refused())
		}
	}
}

func TestPoliciesAreReplacedUnderLoad(t *testing.T) {
	s := newSigner(t, "k")
	e := enforce(t, Options{Clock: func() time.Time { return testTime }}, authentication1(s, "")+manyPolicies())
	text := s.token(nil)
	rs, problems := Parse("f", []byte(authentication1(s, "")+manyPolicies()))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				h := &fakeHeaders{}
				h.add("authorization", "Bearer "+text)
				if d := e.Check(t.Context(), webRequest(h)); d.Refused() {
					t.Errorf("refused: %+v", d)
				}
			}
		})
	}
	for range 20 {
		rules, err := e.Compile(rs)
		if err != nil {
			t.Error(err)
		}
		e.Use(rules)
		e.Counters()
	}
	wg.Wait()
}
