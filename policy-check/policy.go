// Package policy is the language of traffic policies: what a TrafficPolicy can
// say, how its files are read and refused, and the form in which the hub hands
// it to sidecars. Deciding a request is package check; credits are package
// lease. It is a library of both hub and sidecar and imports neither.
package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// APIVersion and Kind are what a document must declare.
const (
	APIVersion = "policy.mesh.dev/v1alpha1"
	Kind       = "TrafficPolicy"
)

// ImplicitDeny stands for the rule in a verdict on a request that no Allow rule
// matched. No rule may have this name.
const ImplicitDeny = "implicit-deny"

// Values of the fields that are one of a few words.
const (
	TargetService   = "Service"
	TargetNamespace = "Namespace"

	SideInbound  = "Inbound"
	SideOutbound = "Outbound"

	ModeEnforce  = "Enforce"
	ModeShadow   = "Shadow"
	ModeDisabled = "Disabled"

	// OnHubDown: what a limit does while the hub can't be asked.
	HubDownLocalShare = "LocalShare"
	HubDownAllow      = "Allow"
	HubDownDeny       = "Deny"

	ActionAllow = "Allow"
	ActionDeny  = "Deny"

	AlgorithmGCRA = "GCRA"

	ScopeMesh = "Mesh"
	ScopePod  = "Pod"

	OverflowSharedBucket = "SharedBucket"
	OverflowAllow        = "Allow"
	OverflowDeny         = "Deny"

	HeadersIETF   = "IETF"
	HeadersLegacy = "Legacy"
	HeadersBoth   = "Both"
	HeadersNone   = "None"
)

// TrafficPolicy is one policy as it was read, with every default filled in. It
// is immutable once parsed and safe for concurrent use.
type TrafficPolicy struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
	// Line is where the policy begins in the file that it was read from.
	Line int `json:"-"`
}

// Metadata names a policy.
type Metadata struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// Spec is what a policy says.
type Spec struct {
	TargetRefs []TargetRef `json:"targetRefs"`
	// Side is the direction, as the targeted workload sees it.
	Side string `json:"side"`
	Mode string `json:"mode"`
	// EnforcePercent is the share of requests on which the policy is enforced;
	// on the others it only counts, as in Shadow mode.
	EnforcePercent int           `json:"enforcePercent"`
	FailurePolicy  FailurePolicy `json:"failurePolicy"`
	Rules          []Rule        `json:"rules"`
}

// TargetRef is a service or a namespace, always of the policy's own namespace.
type TargetRef struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// FailurePolicy is what limits do when the hub doesn't answer.
type FailurePolicy struct {
	OnHubDown string `json:"onHubDown"`
	// HoldTimeout bounds how long a request may wait for a pull.
	HoldTimeout Duration `json:"holdTimeout"`
}

// Rule is a condition and either an access decision or a limit.
type Rule struct {
	Name string `json:"name"`
	// Match is a CEL condition; empty matches every request.
	Match    string   `json:"match,omitempty"`
	Access   *Access  `json:"access,omitempty"`
	Limit    *Limit   `json:"limit,omitempty"`
	Response Response `json:"response"`
}

// Access allows or denies.
type Access struct {
	Action string `json:"action"`
}

// Limit admits requests at a rate, per key.
type Limit struct {
	// Key is a list of CEL expressions of type string; empty means one bucket.
	Key       []string   `json:"key,omitempty"`
	Algorithm string     `json:"algorithm"`
	Rates     []Rate     `json:"rates"`
	Overrides []Override `json:"overrides,omitempty"`
	Scope     string     `json:"scope"`
	// MaxKeys bounds the keys that the hub, and each sidecar, remembers.
	MaxKeys  int    `json:"maxKeys"`
	Overflow string `json:"overflow"`
}

// Rate is Limit requests per Window, of which Burst may come at once.
type Rate struct {
	Limit  int64    `json:"limit"`
	Window Duration `json:"window"`
	Burst  int64    `json:"burst"`
}

// Override replaces the rates for requests that match. The first match wins.
type Override struct {
	Match string `json:"match"`
	Rates []Rate `json:"rates"`
}

// Response is what a refused caller gets; Headers, which only limits have, also
// go on admitted answers. An Allow rule has no response.
type Response struct {
	Status  int    `json:"status,omitempty"`
	Headers string `json:"headers,omitempty"`
	Body    string `json:"body,omitempty"`
}

// Duration is a time.Duration that JSON and YAML write as "1s".
type Duration time.Duration

// MarshalText writes Go's notation.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// ID is "namespace/name".
func (p *TrafficPolicy) ID() string { return p.Metadata.Namespace + "/" + p.Metadata.Name }

// Canonical is the policy as JSON: the same bytes for the same policy, whatever
// the layout of its file. It is also valid YAML, so that Decode and Parse are
// one reader.
func (p *TrafficPolicy) Canonical() []byte { return CanonicalJSON(p) }

// CanonicalJSON writes a value of strings, numbers, bools and collections of
// them as JSON that is also valid YAML. It panics for any other value.
func CanonicalJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("encode policy %T: %v", v, err))
	}
	return escape(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// escape writes the characters that JSON lets through and YAML doesn't as \u.
func escape(data []byte) []byte {
	if !slices.ContainsFunc(data, func(c byte) bool { return c >= 0x7f }) {
		return data
	}
	out := make([]byte, 0, len(data)+16)
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r >= 0x7f && r <= 0xffff {
			out = fmt.Appendf(out, "\\u%04x", r)
		} else {
			out = append(out, data[:n]...)
		}
		data = data[n:]
	}
	return out
}

// Version is a short hash of Canonical.
func (p *TrafficPolicy) Version() string {
	sum := sha256.Sum256(p.Canonical())
	return hex.EncodeToString(sum[:6])
}

// Decode reads what Canonical wrote. It checks as much as Parse does: a sidecar
// must refuse what a newer hub says and it can't do, not half-apply it.
func Decode(canonical []byte) (*TrafficPolicy, error) {
	ps, problems := Parse("canonical", canonical)
	if len(problems) > 0 {
		errs := make([]error, len(problems))
		for i, p := range problems {
			errs[i] = p
		}
		return nil, fmt.Errorf("decode policy: %w", errors.Join(errs...))
	}
	if len(ps) != 1 {
		return nil, fmt.Errorf("decode policy: %d documents, want 1", len(ps))
	}
	return ps[0], nil
}

// Targets are the target references in words, "Service default/ratings".
func (p *TrafficPolicy) Targets() []string {
	out := make([]string, len(p.Spec.TargetRefs))
	for i, t := range p.Spec.TargetRefs {
		if t.Kind == TargetNamespace {
			out[i] = t.Kind + " " + t.Name
		} else {
			out[i] = t.Kind + " " + p.Metadata.Namespace + "/" + t.Name
		}
	}
	return out
}

// Applies tells whether the policy targets a service. A disabled policy does
// too: that it is disabled is for the checker to see.
func (p *TrafficPolicy) Applies(namespace, service string) bool {
	if namespace != p.Metadata.Namespace {
		return false
	}
	return slices.ContainsFunc(p.Spec.TargetRefs, func(t TargetRef) bool {
		return t.Kind == TargetNamespace || t.Name == service
	})
}
