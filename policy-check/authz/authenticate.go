package authz

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/policy-check/authz/jwt"
)

// maxTokens of one request; a verification is the dearest thing a caller can ask.
const maxTokens = 8

// authentication is all the JWT rules of a workload.
type authentication struct {
	rules []*jwtRule
	// places are all that some rule looks at, each once.
	places []place
	// written are the headers that rules write: what a caller sends in them is
	// taken off first, or it could claim what no token says.
	written []string
	remote  bool
}

func (a *authentication) add(r *jwtRule) {
	a.rules = append(a.rules, r)
	for _, p := range r.places {
		if !slices.Contains(a.places, p) {
			a.places = append(a.places, p)
		}
	}
	a.remote = a.remote || r.verifier.Remote()
	if r.payloadHeader != "" {
		a.written = append(a.written, r.payloadHeader)
	}
	for _, h := range r.claimHeaders {
		a.written = append(a.written, h.header)
	}
}

// check verifies every token of the request, wherever one of the rules looks for
// one. A request without a token passes. The claims are those of the token
// that was found first.
func (a *authentication) check(ctx context.Context, r *Request) (*jwt.Claims, Decision) {
	for _, name := range a.written {
		r.Headers.Del(name)
	}
	var claims *jwt.Claims
	var room [maxTokens]accepted
	all := room[:0]
	for _, p := range a.places {
		for i := 0; ; i++ {
			text, ok := p.token(r, i)
			if !ok {
				break
			}
			if text == "" {
				continue // another scheme, such as Basic
			}
			if len(all) == maxTokens {
				return nil, refuseToken(r, a.rules[0], jwt.ErrForm)
			}
			c, by, failure := a.verify(ctx, p, text)
			if failure != nil {
				return nil, refuseToken(r, by, failure)
			}
			if claims == nil {
				claims = c
			}
			all = append(all, accepted{by, p, c})
		}
	}
	for i := range all {
		all[i].apply(r)
	}
	return claims, Decision{Verdict: vocab.VerdictOK}
}

// verify tries the rules that look for tokens at the place, as all do that Envoy
// joins by "any". by is the rule that accepted the token or refused it last.
func (a *authentication) verify(ctx context.Context, p place, text string) (c *jwt.Claims, by *jwtRule, failure *jwt.Failure) {
	for _, rule := range a.rules {
		if c := rule.verifier.Known(text); c != nil && rule.looksAt(p) {
			return c, rule, nil
		}
	}
	by = a.rules[0]
	t, failure := jwt.Parse(text)
	if failure != nil {
		return nil, by, failure
	}
	failure = jwt.ErrIssuer
	for _, rule := range a.rules {
		if !rule.looksAt(p) || rule.verifier.Issuer() != t.Issuer {
			continue
		}
		by = rule
		if c, failure = rule.verifier.Verify(ctx, t); failure == nil {
			return c, rule, nil
		}
	}
	return nil, by, failure
}

func (r *jwtRule) looksAt(p place) bool {
	for i := range r.places {
		if r.places[i] == p {
			return true
		}
	}
	return false
}

// accepted is a valid token of a request.
type accepted struct {
	rule   *jwtRule
	place  place
	claims *jwt.Claims
}

// apply does with the request what the rule says about valid tokens.
func (t *accepted) apply(r *Request) {
	t.rule.counts.add(allowed)
	if !t.rule.forward && t.place.kind == inHeader {
		r.Headers.Del(t.place.name)
	}
	if t.rule.payloadHeader != "" {
		r.Headers.Set(t.rule.payloadHeader, t.claims.Payload)
	}
	for _, h := range t.rule.claimHeaders {
		if value, ok := t.claims.Text(h.path); ok {
			r.Headers.Set(h.header, value)
		}
	}
}

// token is the i-th token at the place. It is empty if what is there is not meant
// for the place.
func (p *place) token(r *Request, i int) (text string, ok bool) {
	switch p.kind {
	case inParam:
		_, query, _ := strings.Cut(r.Path, "?")
		return nthParam(query, p.name, i)
	case inCookie:
		return nthCookie(r.Headers, p.name, i)
	}
	value, ok := r.Headers.At(p.name, i)
	text, meant := strings.CutPrefix(value, p.prefix)
	if !meant {
		return "", ok
	}
	return strings.Trim(text, " \t"), ok
}

func nthParam(query, name string, n int) (string, bool) {
	query, _, _ = strings.Cut(query, "#")
	for part := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(part, "=")
		if key != name && (!strings.ContainsAny(key, "%+") || unescape(key) != name) {
			continue
		}
		if n == 0 {
			return unescape(value), true
		}
		n--
	}
	return "", false
}

func unescape(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

// nthCookie reads RFC 6265, section 4.2.1; HTTP/2 may split the field.
func nthCookie(h Headers, name string, n int) (string, bool) {
	for i := 0; ; i++ {
		field, ok := h.At("cookie", i)
		if !ok {
			return "", false
		}
		for part := range strings.SplitSeq(field, ";") {
			key, value, _ := strings.Cut(strings.Trim(part, " \t"), "=")
			if key != name {
				continue
			}
			if n == 0 {
				return strings.Trim(value, `"`), true
			}
			n--
		}
	}
}

// refuseToken answers as Envoy's jwt_authn filter does.
func refuseToken(r *Request, by *jwtRule, f *jwt.Failure) Decision {
	by.counts.add(denied)
	return Decision{
		Verdict: vocab.VerdictDenied, Policy: by.policy, Rule: by.name, Status: f.Status, Body: f.Text,
		Detail:    "jwt_authn_access_denied{" + strings.ReplaceAll(f.Text, " ", "_") + "}",
		Challenge: `Bearer realm="` + realm(r) + `", error="invalid_token"`,
	}
}

// maxRealm is Envoy's.
const maxRealm = 256

// realm is the URI that was asked for, without its query.
func realm(r *Request) string {
	path, _, _ := strings.Cut(r.Path, "?")
	scheme := r.Scheme
	if scheme == "" {
		scheme = "http"
	}
	uri := scheme + "://" + r.Host + path
	if len(uri) > maxRealm {
		uri = uri[:maxRealm]
	}
	return quotable.Replace(uri)
}

// quotable keeps what a caller chose within the quotation marks.
var quotable = strings.NewReplacer(`"`, "%22", `\`, "%5C")
