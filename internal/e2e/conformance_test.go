//go:build e2e

package e2e

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/scrape"
	"github.com/telemesh/telemesh/internal/testca"
	"github.com/telemesh/telemesh/internal/vocab"
)

// conformed is the name under which the conformance tools reach a server through
// an outbound listener: they dial the name that they ask for, so it is one that
// every machine resolves to loopback.
const conformed = "localhost"

// conformanceMesh starts a hub, a sidecar of the server at address, and one of
// a caller, and waits until the caller's knows the way. It returns the callee's
// addresses and the caller's outbound one.
func conformanceMesh(t *testing.T, address string, flags ...string) (callee map[string]string, outbound string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hub.json")
	start(t, nil, binary(t, "mesh-hub"), "--data-dir", t.TempDir(), "--http-address", "127.0.0.1:0", "--grpc-address", "127.0.0.1:0", "--address-file", file)
	hub := addresses(t, file)
	callee = sidecar(t, hub["grpc"], conformed, append(flags, "--app-address", address, "--service-port", "80")...)
	caller := sidecar(t, hub["grpc"], "caller", flags...)
	eventually(t, 20*time.Second, "the caller's sidecar finds the server's", func() error {
		b, err := get("http://" + caller["admin"] + "/clusters")
		if err == nil && !strings.Contains(string(b), callee["inbound"]) {
			err = fmt.Errorf("it knows %s", b)
		}
		return err
	})
	return callee, caller["outbound"]
}

// h2Server answers every request in HTTP/2 by prior knowledge.
func h2Server(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // h2spec breaks off
		_, _ = io.WriteString(w, "hello\n")
	})}
	s.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = s.Serve(l) }() // until Close
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// excused are the cases of h2spec that a sidecar cannot pass, with the reason.
var excused = map[string]string{
	"3.5. HTTP/2 Connection Preface / Sends invalid connection preface": "the listener serves HTTP/1.1 too: what begins as no preface is answered 400 in HTTP/1.1 and closed, where h2spec expects HTTP/2 or nothing",
}

// h2specLeast is how many of h2spec's 146 cases must pass.
const h2specLeast = 140

func TestH2Spec(t *testing.T) {
	callee, outbound := conformanceMesh(t, h2Server(t))
	for name, address := range map[string]string{"inbound": callee["inbound"], "outbound": strings.Replace(outbound, "127.0.0.1", conformed, 1)} {
		t.Run(name, func(t *testing.T) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "report.xml")
			_, errs, _ := run(t, nil, binary(t, "tools/h2spec"), "-S", "-h", host, "-p", port, "-j", file) // it fails with its first case
			passed, failed := h2specReport(t, file)
			t.Logf("h2spec, %s listener: %d of %d cases passed", name, passed, passed+len(failed))
			if passed < h2specLeast {
				t.Errorf("%d cases passed, want at least %d\n%s", passed, h2specLeast, errs)
			}
			for _, f := range failed {
				if why, ok := excused[f]; ok {
					t.Logf("not passed: %s\n  %s", f, why)
				} else {
					t.Errorf("not passed: %s", f)
				}
			}
		})
	}
}

// h2specReport counts the cases of a JUnit report and names those that failed.
func h2specReport(t *testing.T, file string) (passed int, failed []string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Suites []struct {
			Name  string `xml:"name,attr"`
			Cases []struct {
				Name    string  `xml:"classname,attr"`
				Failure *string `xml:"failure"`
				Error   *string `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(b, &report); err != nil {
		t.Fatal(err)
	}
	for _, s := range report.Suites {
		for _, c := range s.Cases {
			if c.Failure == nil && c.Error == nil {
				passed++
			} else {
				failed = append(failed, s.Name+" / "+c.Name)
			}
		}
	}
	return passed, failed
}

// interopCases are those of gRPC's interoperability test descriptions that
// grpc-go's client has and that need no credentials of a cloud. pick_first_unary
// is left out: it asks for a server's ID, and grpc-go's server has none.
var interopCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response",
	"status_code_and_message", "special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service",
	"orca_per_rpc", "orca_oob", "rpc_soak", "channel_soak",
}

// orcaBalancer shows the client the load reports that the cases orca_... ask
// for, in trailers and in a stream.
const orcaBalancer = `{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`

func TestGRPCInterop(t *testing.T) {
	for _, security := range []string{"none", "mutual_tls"} {
		t.Run(security, func(t *testing.T) {
			var flags []string
			if security != "none" {
				files := testca.New(t).Write(t.TempDir(), 1, "mesh", "spiffe://cluster.local/ns/default/sa/mesh")
				flags = []string{"--tls-cert", files.Cert, "--tls-key", files.Key, "--tls-ca", files.CA}
			}
			_, port, err := net.SplitHostPort(nobody(t))
			if err != nil {
				t.Fatal(err)
			}
			start(t, nil, binary(t, "tools/grpc-interop-server"), "--port", port)
			eventually(t, 20*time.Second, "the server listens", func() error {
				c, err := net.Dial("tcp", "127.0.0.1:"+port)
				if err == nil {
					err = c.Close()
				}
				return err
			})
			callee, outbound := conformanceMesh(t, "127.0.0.1:"+port, flags...)
			_, through, err := net.SplitHostPort(outbound)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range slices.Sorted(slices.Values(interopCases)) {
				t.Run(name, func(t *testing.T) {
					args := []string{"--server_host", conformed, "--server_port", through, "--test_case", name}
					if strings.HasPrefix(name, "orca_") {
						args = append(args, "--service_config_json", orcaBalancer)
					}
					_, errs, code := run(t, []string{"GRPC_GO_LOG_SEVERITY_LEVEL=error"}, binary(t, "tools/grpc-interop-client"), args...)
					if code != 0 {
						t.Errorf("exit %d: %s", code, errs)
					}
				})
			}
			all, err := scrape.Sum(t.Context(), "http://"+callee["admin"], vocab.MetricRequests, nil)
			secured, err2 := scrape.Sum(t.Context(), "http://"+callee["admin"], vocab.MetricRequests, map[string]string{vocab.LabelSecurity: security})
			if err := errors.Join(err, err2); err != nil || secured == 0 || secured != all {
				t.Errorf("%.0f of %.0f requests came with security %s, %v", secured, all, security, err)
			}
		})
	}
}
