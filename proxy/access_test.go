package proxy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/telemesh/telemesh/internal/testca"
	"github.com/telemesh/telemesh/internal/vocab"
	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/authz"
)

// access is one of Istio's access policies as the hub sends it.
func access(t *testing.T, kind, name, spec string) []byte {
	t.Helper()
	rs, problems := authz.Parse(name, []byte("apiVersion: security.istio.io/v1\nkind: "+kind+"\nmetadata: {name: "+name+"}\nspec:\n"+spec))
	if len(problems) > 0 || len(rs) != 1 {
		t.Fatalf("%s: %v", name, problems)
	}
	return rs[0].Canonical()
}

// obey has a sidecar enforce policies.
func obey(t *testing.T, p *Proxy, canonical ...[]byte) {
	t.Helper()
	if err := p.ApplyPolicies(canonical); err != nil {
		t.Fatal(err)
	}
}

// ask sends a request and returns the status, the body and the answer's head.
func ask(t *testing.T, c *http.Client, method, url string, header ...string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// verdicts waits for n requests and counts them by verdict.
func verdicts(t *testing.T, p *Proxy, n uint64) map[string]uint64 {
	t.Helper()
	_, series := edgesOf(t, p, n)
	out := make(map[string]uint64)
	for _, s := range series {
		out[s.GetVerdict()] += s.GetRequests()
	}
	return out
}

// secureMesh is a caller, web, and a callee, api, with certificates.
func secureMesh(t *testing.T, inbound string, h http.HandlerFunc) (calling, callee *Proxy) {
	t.Helper()
	ca := testca.New(t)
	c := secured(t, ca, "api", calleeID, inbound)
	c.AppAddress = application(t, h)
	callee = startSidecar(t, c)
	calling = startSidecar(t, secured(t, ca, "web", callerID, ""))
	knows(calling, callee)
	return calling, callee
}

func TestAnAuthorizationPolicyHoldsBetweenTwoSidecars(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			var reached atomic.Int64
			calling, callee := secureMesh(t, tlsPermissive, func(w http.ResponseWriter, r *http.Request) { reached.Add(1); hello(w, r) })
			obey(t, callee,
				access(t, "AuthorizationPolicy", "web-reads", "  selector: {matchLabels: {app: api}}\n  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/web]}}], to: [{operation: {methods: [GET], hosts: [api]}}]}]\n"),
				access(t, "AuthorizationPolicy", "no-admin", "  action: DENY\n  rules: [{to: [{operation: {paths: ['/admin*']}}]}]\n"),
				access(t, "AuthorizationPolicy", "watch", "  action: AUDIT\n  rules: [{to: [{operation: {paths: [/watched]}}]}]\n"))
			c := caller(t, calling, h2)
			for _, tc := range []struct {
				method, path, body string
				status             int
			}{
				{"GET", "/", "hello", 200},
				{"GET", "/watched", "hello", 200},
				{"POST", "/", "RBAC: access denied", 403},
				{"GET", "/admin/x", "RBAC: access denied", 403},
				{"GET", "/a/%2e%2e/admin", "RBAC: access denied", 403},
				// Beyond what a record keeps of a path.
				{"GET", "/" + strings.Repeat("a", 3000) + "/../admin", "RBAC: access denied", 403},
			} {
				// A URL would be cleaned by the client: give it as it is.
				if status, body, _ := ask(t, c, tc.method, "http://api"+tc.path); status != tc.status || body != tc.body {
					t.Errorf("%s %.40s: %d %q, want %d %q", tc.method, tc.path, status, body, tc.status, tc.body)
				}
			}
			if n := reached.Load(); n != 2 {
				t.Errorf("the application had %d requests, want 2", n)
			}
			want := map[string]uint64{vocab.VerdictOK: 1, vocab.VerdictAudited: 1, vocab.VerdictDenied: 4}
			for side, p := range map[string]*Proxy{"callee": callee, "caller": calling} {
				if got := verdicts(t, p, 6); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("the %s's sidecar counted %v, want %v", side, got, want)
				}
			}
			wantCounts := []string{
				"authorizationpolicy/default/no-admin/0 deny 3", "authorizationpolicy/default/watch/0 audit 1",
				"authorizationpolicy/default/web-reads/0 allow 2", "authorizationpolicy/default/web-reads/implicit-deny deny 1",
			}
			var counts []string
			for _, c := range callee.PolicyCounters() {
				counts = append(counts, fmt.Sprintf("%s/%s %s %d", c.GetPolicy(), c.GetRule(), c.GetDecision(), c.GetCount()))
			}
			if fmt.Sprint(counts) != fmt.Sprint(wantCounts) {
				t.Errorf("counters\n%s, want\n%s", strings.Join(counts, "\n"), strings.Join(wantCounts, "\n"))
			}
		})
	}
}

func TestAPrincipalNeedsMutualTLS(t *testing.T) {
	calling, callee := secureMesh(t, tlsPermissive, hello)
	obey(t, callee, access(t, "AuthorizationPolicy", "p", "  rules: [{from: [{source: {namespaces: [default]}}]}]\n"))
	if status, _, _ := ask(t, caller(t, calling, false), "GET", "http://api/"); status != 200 {
		t.Errorf("with a certificate: %d", status)
	}
	plain := startSidecar(t, Config{Service: "web"}) // says the same of itself, in a header
	knows(plain, callee)
	if status, _, _ := ask(t, caller(t, plain, false), "GET", "http://api/"); status != 403 {
		t.Errorf("without a certificate: %d", status)
	}
}

func TestAPolicyForOpaqueConnectionsLooksAtTheirPeer(t *testing.T) {
	ca := testca.New(t)
	callee := secured(t, ca, "db", calleeID, tlsPermissive)
	callee.AppAddress = serveTCP(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	p := connectPair(t, secured(t, ca, "shop", callerID, ""), callee)
	try := func() bool {
		c, err := net.DialTimeout("tcp", p.caller.OutboundTCP()[0].Address, patience)
		if err != nil { // a refusal may reach the caller that soon
			return false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience)) // a hang fails as an error
		if _, err := c.Write([]byte("ping")); err != nil {
			return false
		}
		b := make([]byte, 4)
		_, err = io.ReadFull(c, b)
		return err == nil && bytes.Equal(b, []byte("ping"))
	}
	for spec, want := range map[string]bool{
		"  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/web]}}]}]\n":                                           true,
		"  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/other]}}]}]\n":                                         false,
		"  rules: [{to: [{operation: {methods: [CONNECT, GET]}}]}]\n":                                                                false,
		"  action: DENY\n  rules: [{to: [{operation: {methods: [DELETE]}}]}]\n":                                                      false,
		"  rules: [{to: [{operation: {ports: ['" + callee.AppAddress[strings.LastIndexByte(callee.AppAddress, ':')+1:] + "']}}]}]\n": true,
	} {
		obey(t, p.callee, access(t, "AuthorizationPolicy", "p", spec))
		if got := try(); got != want {
			t.Errorf("%s: the connection went through: %v, want %v", spec, got, want)
		}
	}
}

func TestARefusedPolicyLeavesTheOldOnesInForce(t *testing.T) {
	calling, callee := secureMesh(t, tlsPermissive, hello)
	obey(t, callee, access(t, "AuthorizationPolicy", "nothing", "  {}\n"))
	good := access(t, "AuthorizationPolicy", "all", "  rules: [{}]\n")
	if err := callee.ApplyPolicies([][]byte{good, bytes.Replace(good, []byte(`"action"`), []byte(`"actions"`), 1)}); err == nil || !strings.Contains(err.Error(), `"actions"`) {
		t.Errorf("error %v, want the field", err)
	}
	if status, _, _ := ask(t, caller(t, calling, false), "GET", "http://api/"); status != 403 {
		t.Errorf("got %d, want that of the old policy", status)
	}
}

func TestTokensAreVerifiedWithKeysThatAServerHas(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}})
	if err != nil {
		t.Fatal(err)
	}
	var fetches atomic.Int64
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fetches.Add(1); _, _ = w.Write(set) }))
	t.Cleanup(keys.Close)
	token := func(claims string) string {
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := s.Sign([]byte(claims))
		if err != nil {
			t.Fatal(err)
		}
		text, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			before := fetches.Load()
			calling, callee := secureMesh(t, tlsPermissive, func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%s|%s|%s", r.Header.Get("x-user"), r.Header.Get("authorization"), r.Header.Get("x-other"))
			})
			obey(t, callee,
				access(t, "RequestAuthentication", "ra", "  jwtRules:\n  - issuer: me\n    jwksUri: "+keys.URL+"\n    outputClaimToHeaders: [{header: x-user, claim: sub}]\n"),
				access(t, "AuthorizationPolicy", "p", "  rules: [{to: [{operation: {paths: [/open]}}]}, {from: [{source: {requestPrincipals: ['me/*']}}], when: [{key: 'request.auth.claims[groups]', values: [dev]}]}]\n"))
			c := caller(t, calling, h2)
			good := "Bearer " + token(fmt.Sprintf(`{"iss":"me","sub":"alice","groups":["dev"],"exp":%d}`, time.Now().Add(time.Hour).Unix()))
			for _, tc := range []struct {
				name, path, token, body string
				status                  int
			}{
				{"valid", "/", good, "alice||kept", 200},
				{"valid again", "/", good, "alice||kept", 200},
				{"none", "/", "", "RBAC: access denied", 403},
				{"none where none is needed", "/open", "", "||kept", 200},
				{"of another group", "/", "Bearer " + token(`{"iss":"me","sub":"bob"}`), "RBAC: access denied", 403},
				{"expired", "/open", "Bearer " + token(`{"iss":"me","sub":"alice","exp":1}`), "Jwt is expired", 401},
				{"changed", "/open", good[:len(good)-5] + "AAAAA", "Jwt verification fails", 401},
			} {
				header := []string{"x-user", "root", "x-other", "kept"}
				if tc.token != "" {
					header = append(header, "authorization", tc.token)
				}
				status, body, head := ask(t, c, "GET", "http://api"+tc.path, header...)
				if status != tc.status || body != tc.body {
					t.Errorf("%s: %d %q, want %d %q", tc.name, status, body, tc.status, tc.body)
				}
				want := ""
				if tc.status == 401 {
					want = `://api` + tc.path + `", error="invalid_token"`
				}
				// The scheme is that of the connection between the sidecars.
				if _, got, _ := strings.Cut(head.Get("www-authenticate"), `Bearer realm="http`); strings.TrimPrefix(got, "s") != want {
					t.Errorf("%s: challenge %q, want %q", tc.name, got, want)
				}
			}
			if n := fetches.Load() - before; n != 1 {
				t.Errorf("%d fetches of the keys, want 1", n)
			}
		})
	}
}

// TestATrafficPolicySeesTheWholePath: what a record keeps of it is cut.
func TestATrafficPolicySeesTheWholePath(t *testing.T) {
	ps, problems := policy.Parse("p", []byte(`apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: p}
spec:
  targetRefs: [{kind: Service, name: api}]
  rules:
  - {name: no-secrets, match: request.path.endsWith("/secret"), access: {action: Deny}}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		calling, callee := secureMesh(t, tlsPermissive, hello)
		obey(t, callee, ps[0].Canonical())
		if status, _, _ := ask(t, caller(t, calling, h2), "GET", "http://api/"+strings.Repeat("a", 3000)+"/secret"); status != 403 {
			t.Errorf("%s: got %d, want 403", name, status)
		}
	}
}
