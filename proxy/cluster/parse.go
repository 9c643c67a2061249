package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const maxFileBytes = 1 << 20

// ParseTrafficPolicy reads the DestinationRules of a YAML file, by the fully
// qualified host that each is for. It is strict: a field that it does not know,
// or that Istio knows and this version does not, is a problem with its line. The
// settings are those of the rules without a problem.
//
// Istio's semantics: outlier detection is on exactly if its block is there, and
// 0 in connectionPool means the default.
func ParseTrafficPolicy(file string, data []byte) (map[string]Settings, []error) {
	r := &reader{file: file}
	out := make(map[string]Settings)
	if len(data) > maxFileBytes {
		return nil, []error{&ParseError{file, 1, 1, fmt.Sprintf("file of %d bytes is larger than %d", len(data), maxFileBytes)}}
	}
	for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out, r.problems
		}
		if err != nil {
			r.problems = append(r.problems, fmt.Errorf("%s: %w", file, err)) // the line is in it
			return out, r.problems
		}
		if doc.Kind != yaml.DocumentNode || doc.Content[0].Tag == "!!null" {
			continue
		}
		before := len(r.problems)
		host, s := r.destinationRule(doc.Content[0])
		if _, twice := out[host]; twice {
			r.fail(doc.Content[0], "host %s has a DestinationRule already", host)
		}
		if len(r.problems) == before {
			out[host] = s
		}
	}
}

func (r *reader) destinationRule(n *yaml.Node) (host string, s Settings) {
	namespace, name, kind := "default", "", ""
	var spec *yaml.Node
	r.object(n, "document", fields{
		"apiVersion": r.word("apiVersion", []string{"networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"}, func(string) {}),
		"kind":       r.word("kind", []string{"DestinationRule"}, func(v string) { kind = v }),
		"metadata": func(n *yaml.Node) {
			r.object(n, "metadata", fields{
				"name": r.text("metadata.name", &name), "namespace": r.text("metadata.namespace", &namespace),
				"labels": func(*yaml.Node) {}, "annotations": func(*yaml.Node) {},
			})
		},
		"spec": func(n *yaml.Node) { spec = n },
	})
	if spec == nil || kind == "" || !has(n, "apiVersion") {
		r.fail(n, "a DestinationRule needs apiVersion, kind and spec")
		return "", s
	}
	var hostNode *yaml.Node
	r.object(spec, "spec", fields{
		"host":          func(n *yaml.Node) { hostNode = n; r.text("spec.host", &host)(n) },
		"trafficPolicy": func(n *yaml.Node) { r.trafficPolicy(n, &s) },
		"subsets":       nil, "exportTo": nil, "workloadSelector": nil,
	})
	if hostNode == nil {
		r.fail(spec, "spec: field host is required")
	} else if strings.Contains(host, "*") {
		r.fail(hostNode, "spec.host: wildcards are not supported in this version")
	}
	return qualify(host, namespace), s
}

// qualify completes a host as Istio does: a bare name is of the rule's namespace.
func qualify(host, namespace string) string {
	host = strings.ToLower(host)
	if !strings.Contains(host, ".") {
		host += "." + namespace + ".svc.cluster.local"
	}
	return host
}

func (r *reader) trafficPolicy(n *yaml.Node, s *Settings) {
	r.object(n, "trafficPolicy", fields{
		"loadBalancer":     func(n *yaml.Node) { r.loadBalancer(n, s) },
		"connectionPool":   func(n *yaml.Node) { r.connectionPool(n, &s.Pool) },
		"outlierDetection": func(n *yaml.Node) { r.outlierDetection(n, s) },
		"tls":              nil, "portLevelSettings": nil, "tunnel": nil, "proxyProtocol": nil, "retryBudget": nil,
	})
}

func (r *reader) loadBalancer(n *yaml.Node, s *Settings) {
	words := map[string]Balancer{
		"UNSPECIFIED": LeastRequest, "LEAST_REQUEST": LeastRequest, "LEAST_CONN": LeastRequest, "ROUND_ROBIN": RoundRobin, "RANDOM": Random,
	}
	r.object(n, "loadBalancer", fields{
		"simple": r.word("loadBalancer.simple", []string{"LEAST_REQUEST", "ROUND_ROBIN", "RANDOM", "LEAST_CONN", "UNSPECIFIED"}, func(v string) {
			s.Balancer = words[v]
		}),
		"consistentHash": func(n *yaml.Node) { r.consistentHash(n, s) },
		"warmupDurationSecs": func(n *yaml.Node) {
			r.duration("loadBalancer.warmupDurationSecs", time.Second, &s.Warmup.Duration)(n)
		},
		"warmup": func(n *yaml.Node) {
			r.object(n, "loadBalancer.warmup", fields{
				"duration":       r.duration("warmup.duration", time.Second, &s.Warmup.Duration),
				"minimumPercent": r.number("warmup.minimumPercent", 0, 100, &s.Warmup.MinimumPercent),
				"aggression":     r.number("warmup.aggression", 1, 1000, &s.Warmup.Aggression),
			})
		},
		"localityLbSetting": nil,
	})
	if has(n, "simple") && has(n, "consistentHash") {
		r.fail(n, "loadBalancer must have either simple or consistentHash")
	}
	if has(n, "warmup") && has(n, "warmupDurationSecs") {
		r.fail(n, "loadBalancer must have either warmup or warmupDurationSecs")
	}
	if s.Warmup.Duration > 0 && s.Balancer != LeastRequest && s.Balancer != RoundRobin {
		r.fail(n, "loadBalancer.warmup works with LEAST_REQUEST and ROUND_ROBIN only")
	}
}

func (r *reader) consistentHash(n *yaml.Node, s *Settings) {
	s.Balancer = RingHash
	k := &s.HashKey
	ringSize := func(path string) func(*yaml.Node) {
		return r.integer(path, 0, maxRing, func(v int64) { s.MinimumRingSize = uint64(v) })
	}
	r.object(n, "consistentHash", fields{
		"httpHeaderName":         r.text("consistentHash.httpHeaderName", &k.Header),
		"httpCookie":             func(n *yaml.Node) { r.httpCookie(n, k) },
		"useSourceIp":            r.boolean("consistentHash.useSourceIp", &k.SourceIP),
		"httpQueryParameterName": r.text("consistentHash.httpQueryParameterName", &k.QueryParameter),
		"minimumRingSize":        ringSize("consistentHash.minimumRingSize"),
		"ringHash": func(n *yaml.Node) {
			r.object(n, "consistentHash.ringHash", fields{"minimumRingSize": ringSize("ringHash.minimumRingSize")})
		},
		"maglev": func(n *yaml.Node) {
			s.Balancer = Maglev
			r.object(n, "consistentHash.maglev", fields{"tableSize": func(n *yaml.Node) { r.tableSize(n, s) }})
		},
	})
	keys := 0
	for _, key := range []string{"httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"} {
		if has(n, key) {
			keys++
		}
	}
	if keys != 1 {
		r.fail(n, "consistentHash must have exactly one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName")
	}
	if has(n, "maglev") && (has(n, "ringHash") || has(n, "minimumRingSize")) {
		r.fail(n, "consistentHash must have either ringHash or maglev")
	}
}

func (r *reader) httpCookie(n *yaml.Node, k *HashKey) {
	r.object(n, "consistentHash.httpCookie", fields{
		"name":       r.text("httpCookie.name", &k.Cookie),
		"path":       r.text("httpCookie.path", &k.Path),
		"ttl":        r.duration("httpCookie.ttl", 0, &k.TTL),
		"attributes": nil,
	})
	k.Generate = has(n, "ttl")
	if k.Cookie == "" {
		r.fail(n, "consistentHash.httpCookie: field name is required")
	}
	// Both end up in a header that we write.
	if strings.ContainsAny(k.Cookie, "=;, \t\r\n\"") || strings.ContainsAny(k.Path, ";\r\n") {
		r.fail(n, "consistentHash.httpCookie: name or path has a character that a cookie must not have")
	}
}

func (r *reader) tableSize(n *yaml.Node, s *Settings) {
	r.integer("maglev.tableSize", 2, maxTable-1, func(v int64) {
		for d := int64(2); d*d <= v; d++ {
			if v%d == 0 {
				r.fail(n, "maglev.tableSize must be a prime, %d is divisible by %d", v, d)
				return
			}
		}
		s.TableSize = uint64(v)
	})(n)
}

func (r *reader) connectionPool(n *yaml.Node, p *Pool) {
	var tcpIdle time.Duration
	r.object(n, "connectionPool", fields{
		"tcp": func(n *yaml.Node) {
			r.object(n, "connectionPool.tcp", fields{
				"maxConnections":        r.limit("tcp.maxConnections", &p.MaxConnections),
				"connectTimeout":        r.duration("tcp.connectTimeout", time.Millisecond, &p.ConnectTimeout),
				"maxConnectionDuration": r.duration("tcp.maxConnectionDuration", time.Millisecond, &p.MaxConnectionTime),
				"idleTimeout":           r.duration("tcp.idleTimeout", 0, &tcpIdle),
				"tcpKeepalive":          nil,
			})
		},
		"http": func(n *yaml.Node) {
			r.object(n, "connectionPool.http", fields{
				"http1MaxPendingRequests":  r.limit("http.http1MaxPendingRequests", &p.MaxPending),
				"http2MaxRequests":         r.limit("http.http2MaxRequests", &p.MaxRequests),
				"maxRequestsPerConnection": r.limit("http.maxRequestsPerConnection", &p.MaxPerConnection),
				"maxRetries":               r.limit("http.maxRetries", &p.MaxRetries),
				"maxConcurrentStreams":     r.limit("http.maxConcurrentStreams", &p.MaxStreams),
				"idleTimeout":              r.duration("http.idleTimeout", 0, &p.IdleTimeout),
				"h2UpgradePolicy":          r.word("http.h2UpgradePolicy", []string{"DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"}, func(v string) { p.UpgradeHTTP2 = v == "UPGRADE" }),
				"useClientProtocol":        nil,
			})
		},
	})
	if p.IdleTimeout == 0 {
		p.IdleTimeout = tcpIdle
	}
}

func (r *reader) outlierDetection(n *yaml.Node, s *Settings) {
	o := IstioOutlier()
	into := func(at *int) func(int64) { return func(v int64) { *at = int(v) } }
	const most = 1 << 20
	r.object(n, "outlierDetection", fields{
		"consecutive5xxErrors":           r.integer("outlierDetection.consecutive5xxErrors", 0, most, into(&o.Consecutive5xx)),
		"consecutiveGatewayErrors":       r.integer("outlierDetection.consecutiveGatewayErrors", 0, most, into(&o.ConsecutiveGateway)),
		"consecutiveLocalOriginFailures": r.integer("outlierDetection.consecutiveLocalOriginFailures", 0, most, into(&o.ConsecutiveLocal)),
		"splitExternalLocalOriginErrors": r.boolean("outlierDetection.splitExternalLocalOriginErrors", &o.SplitLocal),
		"interval":                       r.duration("outlierDetection.interval", time.Millisecond, &o.Interval),
		"baseEjectionTime":               r.duration("outlierDetection.baseEjectionTime", time.Millisecond, &o.BaseEjection),
		"maxEjectionPercent":             r.integer("outlierDetection.maxEjectionPercent", 0, 100, into(&o.MaxPercent)),
		// There is no panic mode here, which is what 0 says.
		"minHealthPercent":  r.integer("outlierDetection.minHealthPercent", 0, 0, func(int64) {}),
		"consecutiveErrors": nil, "outlierDetectionHttpErrorCodes": nil,
	})
	if o.MaxPercent == 0 { // cannot be told from unset in Istio
		o.MaxPercent = IstioOutlier().MaxPercent
	}
	s.Outlier = &o
}
