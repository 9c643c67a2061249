package proxy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/policy-check/check"
	"github.com/telemesh/telemesh/proxy/cluster"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/route"
)

func TestATrafficPolicyWithAProblemIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nspec:\n  host: b\n  subset: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := trafficPolicies(file); err == nil || !strings.Contains(err.Error(), `p.yaml:5:3: spec has no field "subset"`) {
		t.Errorf("error %v, want the line and the field", err)
	}
	if _, err := trafficPolicies(file + ".none"); err == nil || !strings.Contains(err.Error(), "--traffic-policy") {
		t.Errorf("error %v, want the flag", err)
	}
}

func oneEndpoint() *discoveryv1.Service {
	return &discoveryv1.Service{
		Name: "b", Namespace: "default", Host: "b.default.svc.cluster.local",
		Endpoints: []*discoveryv1.Endpoint{{Address: "127.0.0.1:1", Healthy: true}},
	}
}

func withSettings(s cluster.Settings) *pipeline {
	p := newPipeline(check.Decision{})
	p.routes = route.NewTable("default", "local", map[string]cluster.Settings{"b.default.svc.cluster.local": s}, nil)
	p.routes.Set([]*discoveryv1.Service{oneEndpoint()})
	return p
}

func TestPipelineAnswersOverflowAndEjection(t *testing.T) {
	p := withSettings(cluster.Settings{Pool: cluster.Pool{MaxRequests: 1}})
	target, _ := p.Begin(t.Context(), newExchange(exchange.Outbound, "b"))
	x := newExchange(exchange.Outbound, "b")
	_, reply := p.Begin(t.Context(), x)
	if reply == nil || reply.Status != 503 || x.Record.Flags != vocab.FlagUpstreamOverflow || reply.Headers[0].Name != "x-envoy-overloaded" {
		t.Errorf("overflow: reply %+v, flags %q", reply, x.Record.Flags)
	}
	target.Endpoint.Done(exchange.Outcome{Status: 200})

	outlier := cluster.IstioOutlier()
	p = withSettings(cluster.Settings{Outlier: &outlier})
	for range 5 {
		target, _ := p.Begin(t.Context(), newExchange(exchange.Outbound, "b"))
		target.Endpoint.Done(exchange.Outcome{Status: 500})
	}
	x = newExchange(exchange.Outbound, "b")
	_, reply = p.Begin(t.Context(), x)
	if reply == nil || x.Record.Flags != vocab.FlagNoHealthyUpstream || !strings.Contains(reply.Body, "left out for a while") {
		t.Errorf("all ejected: reply %+v, flags %q", reply, x.Record.Flags)
	}
}

func TestPipelineSetsTheCookieOfAStickyService(t *testing.T) {
	p := withSettings(cluster.Settings{Balancer: cluster.RingHash, HashKey: cluster.HashKey{Cookie: "s", Generate: true}})
	for _, application := range []string{"", "session=1"} {
		x := newExchange(exchange.Outbound, "b")
		if _, reply := p.Begin(t.Context(), x); reply != nil {
			t.Fatalf("reply %+v", reply)
		}
		answer := &exchange.Fields{}
		if x.Response = answer; application != "" {
			answer.Set("set-cookie", application)
		}
		p.Respond(x)
		ours, theirs := 0, 0
		for _, f := range answer.All() {
			switch {
			case f.Name == "set-cookie" && f.Value == application:
				theirs++
			case f.Name == "set-cookie" && strings.HasPrefix(f.Value, "s="):
				ours++
			}
		}
		if ours != 1 || (theirs == 1) != (application != "") {
			t.Errorf("application's %q: answer has %v", application, answer.All())
		}
	}
}
