package hub

import (
	"strconv"
	"time"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/version"
	"github.com/telemesh/telemesh/internal/vocab"
	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/files"
	"github.com/telemesh/telemesh/telemetry-hub/graph"
	"github.com/telemesh/telemesh/telemetry-hub/metrics"
	"github.com/telemesh/telemesh/telemetry-hub/registry"
)

// heardWithin is how recent a sidecar's gauges must be to be shown.
const heardWithin = 10 * time.Second

// presence is the registry as the graph sees it.
type presence struct {
	registry *registry.Registry
	h        *Hub
}

// Presence implements graph.Registry.
func (p presence) Presence() []graph.Presence {
	var out []graph.Presence
	for _, s := range p.registry.Sidecars() {
		out = append(out, graph.Presence{Node: graph.RefOf(identityOf(s)), Instance: p.h.instance(s)})
	}
	return out
}

func identityOf(s registry.Sidecar) *telemetryv1.Identity {
	n := s.Node
	return &telemetryv1.Identity{
		Cluster: n.GetCluster(), Namespace: n.GetNamespace(), Workload: n.GetWorkload(), Service: n.GetService(), Version: n.GetVersion(),
	}
}

func (h *Hub) instance(s registry.Sidecar) topologyv1.Instance {
	_, at := h.graph.Heard(s.Node.GetInstance())
	return topologyv1.Instance{
		Name: s.Node.GetInstance(), Connected: s.Connected, AppReachable: s.AppReachable, Detail: s.Detail,
		AdminAddress: s.Node.GetAdminAddress(), LastReportMillis: at / 1e6, SoftwareVersion: s.Node.GetSoftwareVersion(),
	}
}

// source is the hub as its metrics see it.
type source struct{ h *Hub }

// Sidecars implements metrics.Source.
func (s source) Sidecars() []metrics.Sidecar {
	var out []metrics.Sidecar
	for _, m := range s.h.registry.Sidecars() {
		n := m.Node
		one := metrics.Sidecar{
			Namespace: n.GetNamespace(), Workload: n.GetWorkload(), Service: n.GetService(), Version: n.GetVersion(), Instance: n.GetInstance(),
			Connected: m.Connected,
		}
		if saturation, at := s.h.graph.Heard(n.GetInstance()); time.Since(time.Unix(0, at)) < heardWithin {
			one.Saturation = saturation
		}
		out = append(out, one)
	}
	return out
}

// Stats implements metrics.Source.
func (s source) Stats() metrics.Stats {
	st := s.h.store.Stats()
	out := metrics.Stats{
		StoreBytes: st.Bytes, StoreLogBytes: st.LogBytes, StoreRecords: st.Records, Corruptions: st.Corruptions + s.h.damaged + s.h.kept.Damages(),
		StoreSegments: st.Segments, StoreUnsealed: st.Unsealed, StoreSealed: st.Sealed, StoreSealFailures: st.SealFailures,
		Edges: s.h.graph.Edges(), Watchers: s.h.feeds.Watchers(), LeaseGranted: make(map[string]uint64),
	}
	if s.h.policies != nil {
		snapshot := s.h.policies.Snapshot()
		out.PoliciesAccepted, out.PoliciesRefused = snapshot.Accepted, snapshot.Refused
	}
	for _, l := range s.h.leases.Stats().Limits {
		out.LeaseGranted[l.Limit] += l.Granted
	}
	return out
}

func status(h *Hub) topologyv1.Status {
	st := h.store.Stats()
	accepted, duplicates, rejected, records := h.ingest.Stats()
	out := topologyv1.Status{
		SchemaVersion: topologyv1.SchemaVersion, Version: version.String(),
		StartMillis: h.started.UnixMilli(), NowMillis: time.Now().UnixMilli(),
		HTTPAddress: h.HTTPAddress(), GRPCAddress: h.GRPCAddress(), DataDir: h.config.DataDir,
		Sidecars: []topologyv1.SidecarStatus{}, Services: []topologyv1.ServiceStatus{},
		Store: topologyv1.StoreStatus{
			Records: st.Records, Bytes: st.Bytes, Segments: st.Segments, SealedRecords: st.SealedRecords, UnsealedLogs: st.Unsealed, LogBytes: st.LogBytes,
			OldestMilli: st.Oldest / 1e6, Corruptions: st.Corruptions + h.damaged,
		},
		Ingest:   topologyv1.IngestStatus{Batches: accepted, Duplicates: duplicates, Rejected: rejected, Missing: h.state.Missing(), Records: records},
		Policies: h.policyList().Policies,
	}
	if r, ok := h.store.Remote(); ok {
		out.Store.Bucket = &topologyv1.BucketStatus{
			Hub: r.Hub, Segments: r.Segments, Records: r.Records, Bytes: r.Bytes, Waiting: r.Waiting,
			UploadFailures: r.UploadFailures, ReadFailures: r.ReadFailures,
		}
	}
	lost := make(map[string]uint64)
	for _, d := range h.state.Dropped() {
		lost[d.Node.GetInstance()] += d.Count
	}
	for _, s := range h.registry.Sidecars() {
		n := s.Node
		out.Sidecars = append(out.Sidecars, topologyv1.SidecarStatus{
			Instance: h.instance(s), Node: graph.RefOf(identityOf(s)).ID, Namespace: n.GetNamespace(), Workload: n.GetWorkload(),
			Service: n.GetService(), Version: n.GetVersion(), InboundAddress: n.GetInboundAddress(),
			Batches: h.state.Sequence(n.GetInstance(), n.GetEpoch()), RecordsLost: lost[n.GetInstance()],
		})
	}
	for _, s := range h.registry.Services() {
		one := topologyv1.ServiceStatus{Namespace: s.GetNamespace(), Name: s.GetName(), Host: s.GetHost(), Port: s.GetPort(), Endpoints: len(s.GetEndpoints())}
		for _, e := range s.GetEndpoints() {
			if e.GetHealthy() {
				one.Healthy++
			}
		}
		out.Services = append(out.Services, one)
	}
	return out
}

// policyList is what is in force and what was refused.
func (h *Hub) policyList() topologyv1.PolicyList {
	out := topologyv1.PolicyList{Policies: []topologyv1.PolicyStatus{}, Errors: []topologyv1.PolicyError{}}
	if h.policies == nil {
		return out
	}
	type ruleKey struct{ policy, rule string }
	counts := make(map[ruleKey]*topologyv1.PolicyRuleStatus)
	for _, c := range h.state.Policies() {
		k := ruleKey{c.Policy, c.Rule}
		if counts[k] == nil {
			counts[k] = &topologyv1.PolicyRuleStatus{}
		}
		switch c.Decision {
		case vocab.DecisionAllow, vocab.DecisionShadowAllow, vocab.DecisionAudit:
			counts[k].Allowed += c.Count
		case vocab.DecisionDeny, vocab.DecisionShadowDeny:
			counts[k].Denied += c.Count
		case vocab.DecisionThrottle, vocab.DecisionShadowThrottle:
			counts[k].Throttled += c.Count
		}
	}
	counted := func(one topologyv1.PolicyStatus, id string) topologyv1.PolicyStatus {
		for i := range one.Rules {
			if c := counts[ruleKey{id, one.Rules[i].Name}]; c != nil {
				one.Rules[i].Allowed, one.Rules[i].Denied, one.Rules[i].Throttled = c.Allowed, c.Denied, c.Throttled
			}
		}
		return one
	}
	snapshot := h.policies.Snapshot()
	sidecars := h.registry.Sidecars()
	for _, l := range snapshot.Policies {
		out.Policies = append(out.Policies, counted(policyStatus(l.Policy, l.File, sidecars), l.Policy.ID()))
	}
	for _, l := range snapshot.Access {
		out.Policies = append(out.Policies, counted(accessStatus(l, sidecars), l.Resource.ID()))
	}
	for _, e := range snapshot.Errors {
		out.Errors = append(out.Errors, topologyv1.PolicyError{File: e.File, Line: e.Line, Column: e.Column, Reason: e.Reason})
	}
	return out
}

func policyStatus(p *policy.TrafficPolicy, file string, sidecars []registry.Sidecar) topologyv1.PolicyStatus {
	one := topologyv1.PolicyStatus{
		Namespace: p.Metadata.Namespace, Name: p.Metadata.Name, File: file, Version: p.Version(), Mode: string(p.Spec.Mode),
		Targets: p.Targets(), Rules: []topologyv1.PolicyRuleStatus{},
	}
	for i, summary := range p.Summaries() {
		name := strconv.Itoa(i)
		if i < len(p.Spec.Rules) && p.Spec.Rules[i].Name != "" {
			name = p.Spec.Rules[i].Name
		}
		one.Rules = append(one.Rules, topologyv1.PolicyRuleStatus{Name: name, Summary: summary})
	}
	one.Programmed, one.Sidecars = programmed(sidecars, p.ID(), p.Version())
	return one
}

// accessStatus is one of Istio's access policies.
func accessStatus(l files.LoadedAccess, sidecars []registry.Sidecar) topologyv1.PolicyStatus {
	r := l.Resource
	one := topologyv1.PolicyStatus{
		Kind: r.Kind, Namespace: r.Metadata.Namespace, Name: r.Metadata.Name, File: l.File, Version: r.Version(), Mode: r.Mode(),
		Targets: r.Targets(), Rules: []topologyv1.PolicyRuleStatus{},
	}
	for _, rule := range r.Summaries() {
		one.Rules = append(one.Rules, topologyv1.PolicyRuleStatus{Name: rule.Name, Summary: rule.Does})
	}
	one.Programmed, one.Sidecars = programmed(sidecars, r.ID(), r.Version())
	return one
}

// programmed counts the connected sidecars, and those of them that have a version
// in force.
func programmed(all []registry.Sidecar, id, version string) (have, connected int) {
	for _, s := range all {
		if s.Connected {
			connected++
			if s.Policies[id] == version {
				have++
			}
		}
	}
	return have, connected
}
