package proxy

import (
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
	"github.com/telemesh/telemesh/internal/testca"
)

const (
	callerID = "spiffe://cluster.local/ns/default/sa/web"
	calleeID = "spiffe://cluster.local/ns/default/sa/api"
)

// secured is a configuration with a certificate of the authority.
func secured(t testing.TB, ca *testca.Authority, service, id, inbound string) Config {
	f := ca.Write(t.TempDir(), 2, service, id)
	return Config{Service: service, TLSCert: f.Cert, TLSKey: f.Key, TLSCA: f.CA, InboundTLS: inbound}
}

func hello(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("x-proto", r.Proto)
	_, _ = io.WriteString(w, "hello") // a test's client checks it
}

func get(t testing.TB, c *http.Client, url string) (status int, body string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestSidecarsWithCertificatesCallByMutualTLS(t *testing.T) {
	for _, mode := range []string{tlsPermissive, tlsStrict} {
		for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
			t.Run(mode+" "+name, func(t *testing.T) {
				ca := testca.New(t)
				c := secured(t, ca, "api", calleeID, mode)
				c.AppAddress = application(t, hello)
				callee := startSidecar(t, c)
				calling := startSidecar(t, secured(t, ca, "web", callerID, ""))
				knows(calling, callee)
				for range 3 { // the later ones over a kept connection
					if status, body := get(t, caller(t, calling, h2), "http://api/"); status != 200 || body != "hello" {
						t.Fatalf("got %d %q", status, body)
					}
				}
				edges, _ := edgesOf(t, callee, 3)
				if len(edges) != 1 || edges[0].GetSecurity() != "mutual_tls" || edges[0].GetSource().GetPrincipal() != callerID ||
					edges[0].GetSource().GetService() != "web" || edges[0].GetDestination().GetPrincipal() != calleeID {
					t.Errorf("the callee saw %v", edges)
				}
				edges, _ = edgesOf(t, calling, 3)
				if len(edges) != 1 || edges[0].GetDestination().GetPrincipal() != calleeID || edges[0].GetDestination().GetService() != "api" {
					t.Errorf("the caller saw %v", edges)
				}
			})
		}
	}
}

func TestPlainTextIsTakenOrRefusedAsTheListenerSays(t *testing.T) {
	for mode, want := range map[string]int{tlsPermissive: 200, tlsStrict: 503, tlsOff: 200} {
		t.Run(mode, func(t *testing.T) {
			c := secured(t, testca.New(t), "api", calleeID, mode)
			c.AppAddress = application(t, hello)
			callee := startSidecar(t, c)
			plain := startSidecar(t, Config{Service: "web"})
			knows(plain, callee)
			if status, body := get(t, caller(t, plain, false), "http://api/"); status != want {
				t.Errorf("a caller without a certificate got %d %q, want %d", status, body, want)
			}
			if want != 200 {
				return
			}
			if edges, _ := edgesOf(t, callee, 1); edges[0].GetSecurity() != "none" || edges[0].GetSource().GetPrincipal() != "" {
				t.Errorf("the callee saw %v", edges)
			}
		})
	}
}

func TestAStrangersCertificateIsRefusedOnBothSides(t *testing.T) {
	ca, stranger := testca.New(t), testca.New(t)
	c := secured(t, ca, "api", calleeID, tlsStrict)
	c.AppAddress = application(t, hello)
	callee := startSidecar(t, c)
	outsider := startSidecar(t, secured(t, stranger, "web", callerID, ""))
	knows(outsider, callee)
	if status, _ := get(t, caller(t, outsider, false), "http://api/"); status != 503 {
		t.Errorf("a caller of another authority got %d", status)
	}
	calling := startSidecar(t, secured(t, ca, "web", callerID, ""))
	impostor := secured(t, ca, "api", "spiffe://cluster.local/ns/default/sa/other", tlsStrict)
	impostor.AppAddress = c.AppAddress
	wrong := startSidecar(t, impostor)
	calling.ApplyServices([]*discoveryv1.Service{announced(wrong, calleeID)})
	if status, body := get(t, caller(t, calling, false), "http://api/"); status != 503 {
		t.Errorf("a callee with another's address got the request: %d %q", status, body)
	}
}

func TestTLSFlagsAreChecked(t *testing.T) {
	ca := testca.New(t)
	f := ca.Write(t.TempDir(), 2, "api", "")
	broken := filepath.Join(t.TempDir(), "broken.pem")
	if err := os.WriteFile(broken, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]Config{
		"want all three or none":           {TLSCert: f.Cert},
		"want off, permissive or strict":   {InboundTLS: "maybe"},
		"needs --tls-cert":                 {InboundTLS: tlsStrict},
		"no SPIFFE ID in it":               {TLSCert: f.Cert, TLSKey: f.Key, TLSCA: f.CA},
		"no certificate in it":             {TLSCert: f.Cert, TLSKey: f.Key, TLSCA: broken},
		"no such file":                     {TLSCert: f.Cert + ".none", TLSKey: f.Key, TLSCA: f.CA},
		"load certificate " + f.Key + " w": {TLSCert: f.Key, TLSKey: f.Key, TLSCA: f.CA},
	} {
		c.Service, c.InboundAddress, c.OutboundAddress, c.AdminAddress = "api", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
		if _, err := New(c, slog.New(slog.DiscardHandler), new(slog.LevelVar)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
