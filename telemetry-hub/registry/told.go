package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
)

// Types of resources.
const (
	typeService = "service"
	typePolicy  = "trafficpolicy"
)

// told is what one sidecar has, by "type/name".
type told struct {
	mu       sync.Mutex // guards the fields below
	versions map[string]string
	nonce    uint64
	sidecars uint32
	// sent holds the policies of each response that is not answered yet.
	sent map[uint64]map[string]string
}

func newTold(have map[string]string) *told {
	return &told{versions: maps.Clone(have), sent: make(map[uint64]map[string]string)}
}

// policies are those of the response with that nonce.
func (t *told) policies(nonce uint64) map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	ps := t.sent[nonce]
	for n := range t.sent {
		if n <= nonce {
			delete(t.sent, n)
		}
	}
	return ps
}

// tell sends what changed since the last response. The first response is sent
// even when nothing did: it says that the hub is there.
func (r *Registry) tell(stream grpc.BidiStreamingServer[discoveryv1.ConnectRequest, discoveryv1.ConnectResponse], t *told) error {
	want, connected, policies := r.resources()
	t.mu.Lock()
	response := &discoveryv1.ConnectResponse{Sidecars: connected}
	versions := make(map[string]string, len(want))
	for key, res := range want {
		versions[key] = res.GetVersion()
		if t.versions[key] != res.GetVersion() {
			response.Resources = append(response.Resources, res)
		}
	}
	for key := range t.versions {
		if want[key] == nil {
			response.Removed = append(response.Removed, key)
		}
	}
	changed := len(response.GetResources()) > 0 || len(response.GetRemoved()) > 0 || t.sidecars != connected || t.nonce == 0
	if changed {
		t.nonce++
		response.Nonce = t.nonce
		t.versions, t.sidecars = versions, connected
		t.sent[t.nonce] = policies
	}
	t.mu.Unlock()
	if !changed {
		return nil
	}
	return stream.Send(response)
}

// resources is everything a sidecar must know now.
func (r *Registry) resources() (all map[string]*discoveryv1.Resource, connected uint32, policies map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all, policies = make(map[string]*discoveryv1.Resource), make(map[string]string)
	for _, s := range r.services() {
		all[typeService+"/"+s.GetHost()] = &discoveryv1.Resource{
			Type: typeService, Name: s.GetHost(), Version: hash(s), Body: &discoveryv1.Resource_Service{Service: s},
		}
	}
	for _, p := range r.policies {
		policies[p.ID] = p.Version
		all[typePolicy+"/"+p.ID] = &discoveryv1.Resource{
			Type: typePolicy, Name: p.ID, Version: p.Version, Body: &discoveryv1.Resource_TrafficPolicy{TrafficPolicy: p.Canonical},
		}
	}
	for _, m := range r.members {
		if m.Connected {
			connected++
		}
	}
	return all, connected, policies
}

// hash is a resource's version: equal content, equal version, also after the
// hub's restart.
func hash(m proto.Message) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
