// Package ratelimit serves Envoy's global rate limits: it reads the YAML of
// envoyproxy/ratelimit and answers envoy.service.ratelimit.v3 from counters in
// memory. docs/envoy-ratelimit.md says what a configuration means and where the
// two differ.
//
//	yaml      strict reading of YAML nodes
//	config    a domain: descriptors, limits, wildcards
//	match     the limit of one descriptor of a request
//	counters  one fixed window per key, of bounded number
//	stats     what happened, by domain, rule and code
//	server    the gRPC service
//
// It is the only package that speaks Envoy's rate limit API.
package ratelimit
