// Package jwt verifies JSON Web Tokens as Envoy's jwt_authn filter does, with
// its texts: RFC 7515 compact form, asymmetric signatures only, keys from a JSON
// Web Key Set that is written out or fetched. It knows no HTTP: fetching is a
// function that its user passes in.
package jwt
