// Package authz reads Istio's AuthorizationPolicy and RequestAuthentication
// (security.istio.io/v1 and v1beta1) as they are and enforces them in the
// sidecar, on inbound requests.
//
// Policies are compiled when they arrive. A decision walks slices, calls
// nothing over the network and allocates nothing, unless a request carries a
// token that was not seen before. Tokens are package jwt's.
//
// The order is Istio's: a token that is there must be valid, no DENY policy may
// match, and with ALLOW policies one of them must. AUDIT and the annotation
// istio.io/dry-run only leave a mark. What of the two kinds is supported stands
// in docs/authorization.md.
package authz
