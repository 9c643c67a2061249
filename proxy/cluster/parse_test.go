package cluster

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

const rule = `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r, namespace: shop}
spec:
  host: reviews
  trafficPolicy:
`

func TestParseTrafficPolicy(t *testing.T) {
	const file = `# two rules
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r}
spec:
  host: Reviews.default.svc.cluster.local
  trafficPolicy:
    loadBalancer:
      consistentHash: {httpCookie: {name: s, path: /, ttl: 0s}, maglev: {tableSize: 101}}
    connectionPool:
      tcp: {maxConnections: 10, connectTimeout: 30ms}
      http: {http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRequestsPerConnection: 3, maxRetries: 4, idleTimeout: 5s, h2UpgradePolicy: UPGRADE}
    outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 7, interval: 1s, baseEjectionTime: 3m, maxEjectionPercent: 100}
---
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: r, namespace: shop}
spec:
  host: ratings
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 60s, minimumPercent: 20}}
    outlierDetection: {}
`
	got, problems := ParseTrafficPolicy("f.yaml", []byte(file))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	istio := IstioOutlier()
	want := map[string]Settings{
		"reviews.default.svc.cluster.local": {
			Balancer: Maglev, TableSize: 101, HashKey: HashKey{Cookie: "s", Path: "/", Generate: true},
			Pool: Pool{MaxConnections: 10, ConnectTimeout: 30 * time.Millisecond, MaxPending: 1, MaxRequests: 2, MaxPerConnection: 3, MaxRetries: 4, IdleTimeout: 5 * time.Second, UpgradeHTTP2: true},
			Outlier: &Outlier{
				ConsecutiveGateway: 7, ConsecutiveLocal: 5, Interval: time.Second, BaseEjection: 3 * time.Minute, MaxPercent: 100,
			},
		},
		"ratings.shop.svc.cluster.local": {
			Balancer: RoundRobin, Warmup: Warmup{Duration: time.Minute, MinimumPercent: 20}, Outlier: &istio,
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestParseRefusesWithLineAndField(t *testing.T) {
	for _, tc := range []struct {
		policy string // the lines from 7 on
		want   string
	}{
		{"    tls: {mode: SIMPLE}", "f.yaml:7:5: trafficPolicy: field tls is not supported in this version"},
		{"    loadBalancer:\n      simpel: RANDOM", `f.yaml:8:7: loadBalancer has no field "simpel"`},
		{"    loadBalancer: {simple: PASSTHROUGH}", "f.yaml:7:28: loadBalancer.simple must be"},
		{"    loadBalancer: {simple: RANDOM, warmup: {duration: 5s}}", "works with LEAST_REQUEST and ROUND_ROBIN only"},
		{"    loadBalancer: {consistentHash: {}}", "must have exactly one of"},
		{"    loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: a}}", "must have exactly one of"},
		{"    loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 100}}}", "must be a prime, 100 is divisible by 2"},
		{"    loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 9000000}}}", "minimumRingSize must be a whole number between"},
		{"    loadBalancer: {consistentHash: {httpCookie: {name: \"a\\r\\nb\"}}}", "a character that a cookie must not have"},
		{"    connectionPool: {tcp: {maxConnections: -1}}", "tcp.maxConnections must be a whole number"},
		{"    connectionPool: {tcp: {connectTimeout: 5}}", "tcp.connectTimeout must be a duration"},
		{"    connectionPool: {http: {useClientProtocol: true}}", "field useClientProtocol is not supported"},
		{"    outlierDetection: {interval: 0s}", "interval must be a duration of at least 1ms"},
		{"    outlierDetection: {maxEjectionPercent: 101}", "must be a whole number between 0 and 100"},
		{"    outlierDetection: {minHealthPercent: 50}", "minHealthPercent"},
		{"    outlierDetection:", "field outlierDetection has no value"},
		{"    outlierDetection: []", "outlierDetection must be a mapping"},
		{"    outlierDetection: {}\n    outlierDetection: {}", "given twice"},
		{"    outlierDetection: {}\n  subsets: []", "field subsets is not supported"},
		{"    outlierDetection: {\n", "yaml:"},
	} {
		got, problems := ParseTrafficPolicy("f.yaml", []byte(rule+tc.policy+"\n"))
		if len(got) > 0 || !strings.Contains(fmt.Sprint(problems), tc.want) {
			t.Errorf("%s\n  gives %v, %v\n  want %s", tc.policy, got, problems, tc.want)
		}
	}
	for file, want := range map[string]string{
		"[]":                    "document must be a mapping",
		"kind: DestinationRule": "needs apiVersion, kind and spec",
		"kind: VirtualService":  "kind must be DestinationRule",
		rule + "    {}\n---\n" + rule + "    {}\n":         "has a DestinationRule already",
		strings.Replace(rule, "reviews", `"*.com"`, 1):     "wildcards",
		strings.Replace(rule, "host: reviews", "", 1):      "field host is required",
		strings.Repeat("#", maxFileBytes+1):                "larger than",
		rule + "    &a {}\n---\n*a\n":                      "",
		strings.Replace(rule, "kind: Destin", "kind: ", 1): "kind must be",
	} {
		if _, problems := ParseTrafficPolicy("f.yaml", []byte(file)); len(problems) == 0 || !strings.Contains(fmt.Sprint(problems), want) {
			t.Errorf("%.60q gives %v, want %s", file, problems, want)
		}
	}
}

func FuzzParseTrafficPolicy(f *testing.F) {
	f.Add([]byte(rule + "    loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 101}}}\n"))
	f.Fuzz(func(_ *testing.T, data []byte) { ParseTrafficPolicy("f.yaml", data) })
}
