// Package identity says who is at the other end of a request. Two sidecars
// tell each other in a small header; it never reaches an application.
//
// Without mutual TLS the header is believed as it comes, so a caller that
// bypasses its sidecar can claim to be another one. With it the header must fit
// the certificate. See docs/adr/004-peer-metadata-header.md.
package identity

import (
	"net/url"
	"strings"
	"sync"
	"unicode/utf8"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
)

// Peer names one end of an edge. Comparable; empty fields are unknown.
type Peer struct {
	Cluster   string
	Namespace string
	Workload  string
	Service   string // canonical service
	Version   string
	Principal string // SPIFFE ID
	Instance  string
}

// Unknown is a caller without a sidecar.
func Unknown() Peer {
	return Peer{Cluster: vocab.Unknown, Namespace: vocab.Unknown, Workload: vocab.Unknown, Service: vocab.Unknown, Version: vocab.Unknown}
}

// Proto is the peer as batches carry it.
func (p Peer) Proto() *telemetryv1.Identity {
	return &telemetryv1.Identity{
		Cluster: p.Cluster, Namespace: p.Namespace, Workload: p.Workload, Service: p.Service,
		Version: p.Version, Principal: p.Principal, Instance: p.Instance,
	}
}

// Header is the peer as two sidecars exchange it. The principal is left out:
// it comes from the certificate or not at all.
func (p Peer) Header() string {
	fields := [...]struct{ key, value string }{
		{"c", p.Cluster}, {"n", p.Namespace}, {"w", p.Workload}, {"s", p.Service}, {"v", p.Version}, {"i", p.Instance},
	}
	var b strings.Builder
	for i, f := range fields {
		if i > 0 {
			b.WriteByte(';')
		}
		b.WriteString(f.key)
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(f.value))
	}
	return b.String()
}

const (
	maxHeaderBytes = 1024
	maxCached      = 4096
)

// Cache parses peer headers, remembering what it saw: a sidecar meets the same
// few peers over and over. Safe for concurrent use; the zero value is ready.
type Cache struct {
	mu    sync.RWMutex // guards the field below
	peers map[claim]*Peer
}

// claim is what a peer says of itself and what its certificate says of it.
type claim struct{ header, principal string }

// Parse reads a header, which is not kept. It is nil for one that is empty,
// oversized or without a workload.
func (c *Cache) Parse(header string) *Peer { return c.Verified(header, "") }

// Verified is Parse for the other end of a mutual TLS connection, whose
// certificate has the SPIFFE ID principal. A header that claims another
// namespace than the principal's counts for nothing, and whoever sends none is
// still known by its principal.
func (c *Cache) Verified(header, principal string) *Peer {
	if len(header) > maxHeaderBytes || header == "" && principal == "" {
		return nil
	}
	c.mu.RLock()
	known := c.peers[claim{header, principal}]
	c.mu.RUnlock()
	if known != nil {
		return known
	}
	header = strings.Clone(header) // it may be a view, and the peer keeps parts of it
	p, ok := parse(header)
	if principal != "" {
		p, ok = vouched(p, ok, principal), true
	}
	if !ok {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.peers == nil || len(c.peers) >= maxCached { // a flood of peers costs a re-parse, never memory
		c.peers = make(map[claim]*Peer)
	}
	if known = c.peers[claim{header, principal}]; known == nil {
		known = &p
		c.peers[claim{header, principal}] = known
	}
	return known
}

// vouched is what of a claim a principal stands for.
func vouched(p Peer, claimed bool, principal string) Peer {
	namespace := principalNamespace(principal)
	if !claimed || namespace != "" && p.Namespace != namespace {
		p = Unknown()
		if namespace != "" {
			p.Namespace = namespace
		}
	}
	p.Principal = principal
	return p
}

// principalNamespace reads the namespace from an ID in Istio's form,
// spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT; empty for any other, and for what could
// not be said in a header again.
func principalNamespace(principal string) string {
	if !utf8.ValidString(principal) {
		return ""
	}
	_, path, _ := strings.Cut(strings.TrimPrefix(principal, "spiffe://"), "/")
	if parts := strings.Split(path, "/"); len(parts) == 4 && parts[0] == "ns" && parts[2] == "sa" {
		return parts[1]
	}
	return ""
}

func parse(header string) (Peer, bool) {
	var p Peer
	for field := range strings.SplitSeq(header, ";") {
		key, escaped, _ := strings.Cut(field, "=")
		value, err := url.QueryUnescape(escaped)
		if err != nil || !utf8.ValidString(value) {
			return Peer{}, false
		}
		switch key {
		case "c":
			p.Cluster = value
		case "n":
			p.Namespace = value
		case "w":
			p.Workload = value
		case "s":
			p.Service = value
		case "v":
			p.Version = value
		case "i":
			p.Instance = value
		}
	}
	return p, p.Workload != ""
}
