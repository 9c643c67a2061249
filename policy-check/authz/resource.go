package authz

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	policy "github.com/telemesh/telemesh/policy-check"
)

// Group is the API group of both kinds.
const Group = "security.istio.io"

// The kinds.
const (
	KindAuthorizationPolicy   = "AuthorizationPolicy"
	KindRequestAuthentication = "RequestAuthentication"
)

// Actions of an AuthorizationPolicy.
const (
	ActionAllow  = "ALLOW"
	ActionDeny   = "DENY"
	ActionAudit  = "AUDIT"
	actionCustom = "CUSTOM"
)

// dryRun is the annotation of a policy that must not refuse anything.
const dryRun = "istio.io/dry-run"

// Resource is one document. Exactly one of Authorization and Authentication is
// set, as Kind says. It is immutable once parsed and safe for concurrent use.
type Resource struct {
	APIVersion     string
	Kind           string
	Metadata       Metadata
	Authorization  *AuthorizationPolicy
	Authentication *RequestAuthentication
	// Line is where the document begins in the file that it was read from.
	Line int
}

// Metadata names a resource. Namespace is default if the document has none.
type Metadata struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// AuthorizationPolicy is the spec of Istio's kind of that name; the names and
// the meaning of all fields are Istio's.
type AuthorizationPolicy struct {
	Selector   *Selector   `json:"selector,omitempty"`
	TargetRef  *TargetRef  `json:"targetRef,omitempty"`
	TargetRefs []TargetRef `json:"targetRefs,omitempty"`
	Rules      []Rule      `json:"rules,omitempty"`
	// Action is ALLOW if the document has none.
	Action   string    `json:"action,omitempty"`
	Provider *Provider `json:"provider,omitempty"`
}

// Selector picks workloads by their labels; all must be equal.
type Selector struct {
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
}

// TargetRef picks the workloads of a service.
type TargetRef struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
}

// Provider names an external authorizer, for CUSTOM.
type Provider struct {
	Name string `json:"name,omitempty"`
}

// Rule matches a request that one of From sent, for one of To, under all
// conditions of When. An absent list matches everything.
type Rule struct {
	From []From      `json:"from,omitempty"`
	To   []To        `json:"to,omitempty"`
	When []Condition `json:"when,omitempty"`
}

// From wraps a Source.
type From struct {
	Source *Source `json:"source,omitempty"`
}

// To wraps an Operation.
type To struct {
	Operation *Operation `json:"operation,omitempty"`
}

// Source is who calls; all fields that are given must match.
type Source struct {
	Principals           []string `json:"principals,omitempty"`
	NotPrincipals        []string `json:"notPrincipals,omitempty"`
	RequestPrincipals    []string `json:"requestPrincipals,omitempty"`
	NotRequestPrincipals []string `json:"notRequestPrincipals,omitempty"`
	Namespaces           []string `json:"namespaces,omitempty"`
	NotNamespaces        []string `json:"notNamespaces,omitempty"`
	ServiceAccounts      []string `json:"serviceAccounts,omitempty"`
	NotServiceAccounts   []string `json:"notServiceAccounts,omitempty"`
	IPBlocks             []string `json:"ipBlocks,omitempty"`
	NotIPBlocks          []string `json:"notIpBlocks,omitempty"`
	RemoteIPBlocks       []string `json:"remoteIpBlocks,omitempty"`
	NotRemoteIPBlocks    []string `json:"notRemoteIpBlocks,omitempty"`
	TrustDomains         []string `json:"trustDomains,omitempty"`
	NotTrustDomains      []string `json:"notTrustDomains,omitempty"`
}

// Operation is what is asked for; all fields that are given must match.
type Operation struct {
	Hosts      []string `json:"hosts,omitempty"`
	NotHosts   []string `json:"notHosts,omitempty"`
	Ports      []string `json:"ports,omitempty"`
	NotPorts   []string `json:"notPorts,omitempty"`
	Methods    []string `json:"methods,omitempty"`
	NotMethods []string `json:"notMethods,omitempty"`
	Paths      []string `json:"paths,omitempty"`
	NotPaths   []string `json:"notPaths,omitempty"`
}

// Condition compares one attribute.
type Condition struct {
	Key       string   `json:"key,omitempty"`
	Values    []string `json:"values,omitempty"`
	NotValues []string `json:"notValues,omitempty"`
}

// RequestAuthentication is the spec of Istio's kind of that name.
type RequestAuthentication struct {
	Selector   *Selector   `json:"selector,omitempty"`
	TargetRef  *TargetRef  `json:"targetRef,omitempty"`
	TargetRefs []TargetRef `json:"targetRefs,omitempty"`
	JWTRules   []JWTRule   `json:"jwtRules,omitempty"`
}

// JWTRule is one issuer of tokens and where requests carry them.
type JWTRule struct {
	Issuer                string          `json:"issuer,omitempty"`
	Audiences             []string        `json:"audiences,omitempty"`
	JWKSURI               string          `json:"jwksUri,omitempty"`
	JWKS                  string          `json:"jwks,omitempty"`
	FromHeaders           []JWTHeader     `json:"fromHeaders,omitempty"`
	FromParams            []string        `json:"fromParams,omitempty"`
	FromCookies           []string        `json:"fromCookies,omitempty"`
	OutputPayloadToHeader string          `json:"outputPayloadToHeader,omitempty"`
	OutputClaimToHeaders  []ClaimToHeader `json:"outputClaimToHeaders,omitempty"`
	ForwardOriginalToken  bool            `json:"forwardOriginalToken,omitempty"`
	// Timeout is Go's notation, "5s" if the document has none.
	Timeout              string   `json:"timeout,omitempty"`
	SpaceDelimitedClaims []string `json:"spaceDelimitedClaims,omitempty"`
}

// JWTHeader is a header that carries a token, behind the prefix.
type JWTHeader struct {
	Name   string `json:"name,omitempty"`
	Prefix string `json:"prefix,omitempty"`
}

// ClaimToHeader copies a claim of a valid token into a request header.
type ClaimToHeader struct {
	Header string `json:"header,omitempty"`
	Claim  string `json:"claim,omitempty"`
}

// defaultTimeout is Istio's for a call to a JWKS server.
const defaultTimeout = 5 * time.Second

// ID is "authorizationpolicy/namespace/name": unlike a TrafficPolicy's ID it
// begins with the kind, so that no two resources have the same.
func (r *Resource) ID() string {
	return strings.ToLower(r.Kind) + "/" + r.Metadata.Namespace + "/" + r.Metadata.Name
}

// DryRun tells whether the resource only leaves a mark.
func (r *Resource) DryRun() bool { return r.Metadata.Annotations[dryRun] == "true" }

// document is a resource as its YAML has it.
type document[Spec any] struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
}

// Canonical is the resource as JSON, the same bytes for the same resource.
func (r *Resource) Canonical() []byte {
	if r.Authorization != nil {
		return policy.CanonicalJSON(document[*AuthorizationPolicy]{r.APIVersion, r.Kind, r.Metadata, r.Authorization})
	}
	return policy.CanonicalJSON(document[*RequestAuthentication]{r.APIVersion, r.Kind, r.Metadata, r.Authentication})
}

// Version is a short hash of Canonical.
func (r *Resource) Version() string {
	sum := sha256.Sum256(r.Canonical())
	return hex.EncodeToString(sum[:6])
}

// Decode reads what Canonical wrote, as strictly as Parse.
func Decode(canonical []byte) (*Resource, error) {
	rs, problems := Parse("canonical", canonical)
	if len(problems) > 0 {
		errs := make([]error, len(problems))
		for i, p := range problems {
			errs[i] = p
		}
		return nil, fmt.Errorf("decode: %w", errors.Join(errs...))
	}
	if len(rs) != 1 {
		return nil, fmt.Errorf("decode: %d documents of %s, want 1", len(rs), Group)
	}
	return rs[0], nil
}

// IsCanonical tells Canonical's output from that of another kind of policy.
func IsCanonical(data []byte) bool {
	return bytes.HasPrefix(data, []byte(`{"apiVersion":"`+Group+`/`))
}

// selector and targets are those of either kind.
func (r *Resource) selector() map[string]string {
	s := (*Selector)(nil)
	if r.Authorization != nil {
		s = r.Authorization.Selector
	} else {
		s = r.Authentication.Selector
	}
	if s == nil {
		return nil
	}
	return s.MatchLabels
}

func (r *Resource) targets() []TargetRef {
	one, many := (*TargetRef)(nil), []TargetRef(nil)
	if r.Authorization != nil {
		one, many = r.Authorization.TargetRef, r.Authorization.TargetRefs
	} else {
		one, many = r.Authentication.TargetRef, r.Authentication.TargetRefs
	}
	if one != nil {
		return append([]TargetRef{*one}, many...)
	}
	return many
}

// Workload is whose requests are decided.
type Workload struct {
	Namespace, Service string
	Labels             map[string]string
	// RootNamespace is where policies for the whole mesh are; istio-system if
	// empty.
	RootNamespace string
}

// defaultRootNamespace is Istio's (meshConfig.rootNamespace).
const defaultRootNamespace = "istio-system"

// Applies tells whether the resource is for the workload: one of its namespace
// or of the root namespace that selects it.
func (r *Resource) Applies(w Workload) bool {
	root := w.RootNamespace
	if root == "" {
		root = defaultRootNamespace
	}
	if ns := r.Metadata.Namespace; ns != w.Namespace && ns != root {
		return false
	}
	for key, value := range r.selector() {
		if label, ok := w.Labels[key]; !ok || label != value {
			return false
		}
	}
	targets := r.targets()
	for _, t := range targets {
		if t.Name == w.Service && r.Metadata.Namespace == w.Namespace {
			return true
		}
	}
	return len(targets) == 0
}
