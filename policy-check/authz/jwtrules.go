package authz

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/telemesh/telemesh/policy-check/authz/jwt"
)

// hopByHop and pseudo fields must not be written by a policy.
var reserved = []string{"host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "keep-alive"}

func (d *decoder) checkAuthentication(n *yaml.Node, r *Resource) {
	d.checkTargets(n, r)
	for i := range r.Authentication.JWTRules {
		d.checkJWTRule(&r.Authentication.JWTRules[i])
	}
}

func (d *decoder) checkJWTRule(j *JWTRule) {
	if j.Issuer == "" {
		d.failAt(j, "jwtRules: field issuer is required")
	}
	switch {
	case j.JWKS != "" && j.JWKSURI != "":
		d.failAt(&j.JWKSURI, "jwtRules: jwks and jwksUri are both given; keep one")
	case j.JWKS == "" && j.JWKSURI == "":
		d.failAt(j, "jwtRules: neither jwks nor jwksUri is given; give one: the issuer's OpenID discovery document is not read in this version")
	case j.JWKS != "":
		if _, err := jwt.ParseKeys([]byte(j.JWKS)); err != nil {
			d.failAt(&j.JWKS, "jwks: %v", err)
		}
	default:
		if u, err := url.Parse(j.JWKSURI); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			d.failAt(&j.JWKSURI, "jwksUri must be http://HOST/PATH or https://HOST/PATH, is %q", j.JWKSURI)
		}
	}
	if _, err := j.timeout(); err != nil {
		d.failAt(&j.Timeout, "%v", err)
	}
	for i := range j.FromHeaders {
		if h := &j.FromHeaders[i]; !isFieldName(h.Name) {
			d.failAt(h, "fromHeaders: name must be the name of a header field, is %q", h.Name)
		}
	}
	if h := j.OutputPayloadToHeader; h != "" && !writable(h) {
		d.failAt(&j.OutputPayloadToHeader, "outputPayloadToHeader must be the name of a header field that a policy may write, is %q", h)
	}
	seen := make(map[string]bool)
	for i := range j.OutputClaimToHeaders {
		o := &j.OutputClaimToHeaders[i]
		if !writable(o.Header) || o.Claim == "" || strings.ContainsAny(o.Claim, "[]") {
			d.failAt(o, "outputClaimToHeaders needs a header that a policy may write, and a claim, NAME or NAME.NAME; has %q and %q", o.Header, o.Claim)
		}
		if seen[strings.ToLower(o.Header)] {
			d.failAt(o, "outputClaimToHeaders: header %s is given twice", o.Header)
		}
		seen[strings.ToLower(o.Header)] = true
	}
}

// timeout is how long a request may wait for the keys.
func (j *JWTRule) timeout() (time.Duration, error) {
	if j.Timeout == "" {
		return defaultTimeout, nil
	}
	t, err := time.ParseDuration(j.Timeout)
	if err != nil || t < time.Millisecond || t > time.Minute {
		return 0, fmt.Errorf("timeout must be between 1ms and 1m, such as 5s, is %q", j.Timeout)
	}
	return t, nil
}

// isFieldName is RFC 9110, section 5.6.2.
func isFieldName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		return !letter && !strings.ContainsRune("!#$%&'*+.^_`|~-", c)
	})
}

func writable(name string) bool {
	return isFieldName(name) && !slices.Contains(reserved, strings.ToLower(name))
}

// place is where a request carries a token.
type place struct {
	kind   placeKind
	name   string
	prefix string // of a header's value
}

type placeKind uint8

const (
	inHeader placeKind = iota
	inParam
	inCookie
)

// places are where a rule looks: where Istio does unless it says otherwise.
func (j *JWTRule) places() []place {
	var out []place
	for _, h := range j.FromHeaders {
		out = append(out, place{inHeader, strings.ToLower(h.Name), h.Prefix})
	}
	for _, name := range j.FromParams {
		out = append(out, place{inParam, name, ""})
	}
	for _, name := range j.FromCookies {
		out = append(out, place{inCookie, name, ""})
	}
	if out == nil {
		return []place{{inHeader, "authorization", "Bearer "}, {inParam, "access_token", ""}}
	}
	return out
}

// claimHeader copies a claim.
type claimHeader struct {
	header string
	path   []string
}

// jwtRule is one compiled rule.
type jwtRule struct {
	verifier      *jwt.Verifier
	places        []place
	forward       bool
	payloadHeader string
	claimHeaders  []claimHeader
	counts        *counts
	policy, name  string
}

func (e *Enforcer) compileJWT(r *Resource, i int) (*jwtRule, *jwt.Source, error) {
	spec := &r.Authentication.JWTRules[i]
	source := (*jwt.Source)(nil)
	if spec.JWKS != "" {
		keys, err := jwt.ParseKeys([]byte(spec.JWKS))
		if err != nil {
			return nil, nil, fmt.Errorf("%s: jwks: %w", r.ID(), err)
		}
		source = jwt.Inline(keys)
	} else {
		timeout, err := spec.timeout()
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", r.ID(), err)
		}
		source = e.keys.Source(spec.JWKSURI, timeout)
	}
	out := &jwtRule{
		verifier: jwt.NewVerifier(jwt.Rule{Issuer: spec.Issuer, Audiences: spec.Audiences, Keys: source, SpaceDelimited: spec.SpaceDelimitedClaims}, e.o.Clock),
		places:   spec.places(), forward: spec.ForwardOriginalToken, payloadHeader: strings.ToLower(spec.OutputPayloadToHeader),
		policy: r.ID(), name: ruleName(i), counts: e.countsOf(r.ID(), ruleName(i)),
	}
	for _, o := range spec.OutputClaimToHeaders {
		out.claimHeaders = append(out.claimHeaders, claimHeader{strings.ToLower(o.Header), strings.Split(o.Claim, ".")})
	}
	return out, source, nil
}
