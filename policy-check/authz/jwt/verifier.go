package jwt

import (
	"context"
	"strings"
	"time"
)

// Rule says which tokens of an issuer are valid.
type Rule struct {
	Issuer string
	// Audiences are those of which a token must have one; none means any.
	Audiences []string
	Keys      *Source
	// SpaceDelimited claims are lists of words, beside scope and permission.
	SpaceDelimited []string
}

// Verifier verifies tokens by one rule and remembers the valid ones. Safe for
// concurrent use.
type Verifier struct {
	rule  Rule
	now   func() time.Time
	cache cache
}

// NewVerifier makes a verifier. A nil clock is the time of day.
func NewVerifier(r Rule, now func() time.Time) *Verifier {
	if now == nil {
		now = time.Now
	}
	return &Verifier{rule: r, now: now}
}

// Remote tells whether Verify may wait for keys.
func (v *Verifier) Remote() bool { return v.rule.Keys.Remote() }

// Issuer is the rule's.
func (v *Verifier) Issuer() string { return v.rule.Issuer }

// Known returns the claims of a token that was verified before, with the keys of
// now, and has not expired. It allocates nothing.
func (v *Verifier) Known(text string) *Claims {
	c := v.cache.get(text, v.rule.Keys.keys.Load())
	if c == nil || c.expires != 0 && v.now().Unix() > c.expires+skew {
		return nil
	}
	return c
}

// Verify checks a token that is not known. It waits for keys no longer than the
// source's timeout for one fetch, and another one for a key that is not known.
func (v *Verifier) Verify(ctx context.Context, t *Token) (*Claims, *Failure) {
	if t.Issuer != v.rule.Issuer {
		return nil, ErrIssuer
	}
	if f := t.checkTime(v.now()); f != nil {
		return nil, f
	}
	if f := t.checkAudience(v.rule.Audiences); f != nil {
		return nil, f
	}
	keys := v.rule.Keys.get(ctx)
	if keys == nil {
		return nil, ErrKeysUnavailable
	}
	f := keys.verify(t)
	if f == ErrNoKey {
		if renewed := v.rule.Keys.renew(ctx, keys); renewed != nil {
			keys, f = renewed, renewed.verify(t)
		}
	}
	if f != nil {
		return nil, f
	}
	// The token may be a view into a buffer that the next request is read into.
	own := *t
	own.text, own.payload = strings.Clone(t.text), strings.Clone(t.payload)
	c := newClaims(&own, v.rule.SpaceDelimited)
	v.cache.put(own.text, keys, c)
	return c, nil
}
