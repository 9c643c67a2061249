// Package convert makes TrafficPolicies of what other limiters and access checks
// are configured with: Istio Mixer's handlers, instances, rules and quota specs,
// envoyproxy/ratelimit's descriptors, Kuadrant's RateLimitPolicy and Envoy
// Gateway's BackendTrafficPolicy.
//
// What cannot be carried over is named, field by field, and nothing is made
// milder or stricter in silence: a rule that would lose a condition is left out
// whole. It reads text and writes text, and is not on any request's path.
package convert
