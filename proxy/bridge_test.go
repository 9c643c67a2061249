package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/testca"
	"github.com/telemesh/telemesh/policy-check/check"
	"github.com/telemesh/telemesh/proxy/cluster"
	"github.com/telemesh/telemesh/proxy/exchange"
)

const upgradeRule = `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: api}
spec:
  host: api
  trafficPolicy:
    connectionPool: {http: {h2UpgradePolicy: UPGRADE}}
`

// TestVersionsOfHTTPOnTheWay: what an application speaks is not what its caller
// does, and sidecars speak a third.
func TestVersionsOfHTTPOnTheWay(t *testing.T) {
	rule := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(rule, []byte(upgradeRule), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		h2       bool // the caller
		rule     string
		protocol string
		want     string // what the application sees
	}{
		{false, "", "", "HTTP/1.1"},
		{false, rule, "", "HTTP/2.0"},
		{false, rule, "http1", "HTTP/1.1"},
		{false, "", "http2", "HTTP/2.0"},
		{true, "", "http1", "HTTP/1.1"},
		{true, rule, "http2", "HTTP/2.0"},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v %v %s %v", tt.h2, tt.rule != "", tt.protocol, secure), func(t *testing.T) {
				api, web := Config{Service: "api"}, Config{Service: "web"}
				if secure {
					ca := testca.New(t)
					api, web = secured(t, ca, "api", calleeID, tlsStrict), secured(t, ca, "web", callerID, "")
				}
				api.AppAddress, api.AppProtocol, web.TrafficPolicyFile = application(t, hello), tt.protocol, tt.rule
				callee := startSidecar(t, api)
				calling := startSidecar(t, web)
				knows(calling, callee)
				client := caller(t, calling, tt.h2)
				for range 2 {
					resp, err := client.Post("http://api/", "text/plain", strings.NewReader("some"))
					if err != nil {
						t.Fatal(err)
					}
					b, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if got := resp.Header.Get("x-proto"); string(b) != "hello" || got != tt.want {
						t.Errorf("%d %q, the application saw %q, want %q", resp.StatusCode, b, got, tt.want)
					}
				}
				client.CloseIdleConnections()
				for _, p := range []*Proxy{calling, callee} {
					_, series := edgesOf(t, p, 2)
					if len(series) != 1 || series[0].GetRequests() != 2 || series[0].GetResponseCode() != 200 || series[0].GetResponseFlags() != "-" {
						t.Errorf("%s counted %d series: %d with %d %q", p.config.Service, len(series), series[0].GetRequests(), series[0].GetResponseCode(), series[0].GetResponseFlags())
					}
				}
			})
		}
	}
}

// TestAnUpgradeStaysHTTP1 though requests of its service go over HTTP/2.
func TestAnUpgradeStaysHTTP1(t *testing.T) {
	rule := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(rule, []byte(upgradeRule), 0o600); err != nil {
		t.Fatal(err)
	}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(c, rw)
	}))
	t.Cleanup(app.Close)
	callee := startSidecar(t, Config{Service: "api", AppAddress: app.Listener.Addr().String()})
	calling := startSidecar(t, Config{Service: "web", TrafficPolicyFile: rule})
	knows(calling, callee)
	c, err := net.Dial("tcp", calling.OutboundAddress())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience)) // a hang fails as an error
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: api\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v %v", resp, err)
	}
	fmt.Fprint(c, "hello\n")
	if line, err := in.ReadString('\n'); line != "hello\n" {
		t.Errorf("%q %v", line, err)
	}
}

func TestPipelineUpgradesToHTTP2(t *testing.T) {
	p := withSettings(cluster.Settings{Pool: cluster.Pool{UpgradeHTTP2: true}})
	for _, tt := range []struct {
		method   string
		switches bool
		want     exchange.Protocol
	}{{"GET", false, exchange.HTTP2}, {"GET", true, exchange.Same}, {"CONNECT", false, exchange.Same}} {
		x := newExchange(exchange.Outbound, "b")
		x.Record.Method, x.Switches = tt.method, tt.switches
		target, reply := p.Begin(t.Context(), x)
		if reply != nil || target.Protocol != tt.want {
			t.Errorf("%s %v: protocol %d, want %d (%+v)", tt.method, tt.switches, target.Protocol, tt.want, reply)
			continue
		}
		target.Endpoint.Done(exchange.Outcome{Status: 200})
	}
	p = newPipeline(check.Decision{})
	p.appAddress, p.appSpeaks = "127.0.0.1:1", exchange.HTTP1
	if target, _ := p.Begin(t.Context(), newExchange(exchange.Inbound, "b")); target.Protocol != exchange.HTTP1 {
		t.Errorf("protocol %d to the application", target.Protocol)
	}
}

func TestConfigNamesAWrongProtocol(t *testing.T) {
	c := Config{Service: "a", AppProtocol: "h3"}
	c.setDefaults()
	if err := c.validate(); err == nil || !strings.Contains(err.Error(), `--app-protocol "h3"`) {
		t.Errorf("error %v", err)
	}
}
