package graph

import (
	"fmt"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// Thresholds of health by share of failed requests, as Kiali has them by
// default.
const (
	failingShare  = 0.10
	degradedShare = 0.001
)

// edgeHealth judges traffic and says why in words.
func edgeHealth(s topologyv1.Signals) (topologyv1.Health, string) {
	switch {
	case s.Requests == 0:
		return topologyv1.Idle, "no request in this window"
	case s.ErrorShare >= failingShare:
		return topologyv1.Failing, fmt.Sprintf("%d of %d requests fail (%.1f %%)", s.Errors, s.Requests, 100*s.ErrorShare)
	case s.ErrorShare >= degradedShare:
		return topologyv1.Degraded, fmt.Sprintf("%d of %d requests fail (%.1f %%)", s.Errors, s.Requests, 100*s.ErrorShare)
	case s.Denied > 0:
		return topologyv1.Degraded, fmt.Sprintf("policy denies %d of %d requests", s.Denied, s.Requests)
	case s.Throttled > 0:
		return topologyv1.Degraded, fmt.Sprintf("policy throttles %d of %d requests", s.Throttled, s.Requests)
	}
	return topologyv1.Healthy, fmt.Sprintf("all of %d requests succeed", s.Requests)
}

// nodeHealth judges a node by its instances first, then by the requests it got
// (or, for a pure caller, made).
func nodeHealth(n *topologyv1.Node) (topologyv1.Health, string) {
	var lost, unreachable int
	for _, i := range n.Instances {
		switch {
		case !i.Connected:
			lost++
		case !i.AppReachable:
			unreachable++
		}
	}
	total := len(n.Instances)
	switch {
	case total > 0 && lost == total:
		return topologyv1.Lost, fmt.Sprintf("no sidecar of this workload is connected (%d lost)", lost)
	case total > 0 && lost+unreachable == total:
		return topologyv1.Failing, fmt.Sprintf("the application does not accept connections (%d of %d instances)", unreachable, total)
	}
	signals := n.Inbound
	if signals.Requests == 0 {
		signals = n.Outbound
	}
	health, reason := edgeHealth(signals)
	if lost+unreachable > 0 && health != topologyv1.Failing {
		return topologyv1.Degraded, fmt.Sprintf("%d of %d sidecars lost, %d of %d applications unreachable", lost, total, unreachable, total)
	}
	if total == 0 && n.Kind == KindWorkload && health == topologyv1.Idle {
		return topologyv1.Idle, "no request in this window and no sidecar registered"
	}
	return health, reason
}
