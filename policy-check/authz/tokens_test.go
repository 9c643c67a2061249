package authz

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// testTime is now in scripts.
var testTime = time.Unix(1_800_000_000, 0)

// signer signs tokens of a key.
type signer struct {
	tb   testing.TB
	id   string
	key  *ecdsa.PrivateKey
	jwks string
}

func newSigner(tb testing.TB, id string) *signer {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: id, Algorithm: "ES256", Use: "sig"}}}
	b, err := json.Marshal(set)
	if err != nil {
		tb.Fatal(err)
	}
	return &signer{tb, id, key, string(b)}
}

// token signs claims; iss, sub and exp are set unless they are there.
func (s *signer) token(claims map[string]any) string {
	s.tb.Helper()
	all := map[string]any{"iss": "https://id.example", "sub": "alice", "exp": testTime.Add(time.Hour).Unix()}
	for k, v := range claims {
		if all[k] = v; v == nil {
			delete(all, k)
		}
	}
	b, err := json.Marshal(all)
	if err != nil {
		s.tb.Fatal(err)
	}
	to, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: s.key, KeyID: s.id}}, nil)
	if err != nil {
		s.tb.Fatal(err)
	}
	signed, err := to.Sign(b)
	if err != nil {
		s.tb.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		s.tb.Fatal(err)
	}
	return text
}

// testTokens are those that scripts name.
func testTokens(tb testing.TB) map[string]string {
	good, stranger := newSigner(tb, "k1"), newSigner(tb, "k1")
	return map[string]string{
		"JWKS":        good.jwks,
		"alice":       good.token(nil),
		"bob":         good.token(map[string]any{"sub": "bob", "aud": []string{"web", "api"}, "azp": "cli", "groups": []string{"dev", "ops"}, "scope": "read write"}),
		"nested":      good.token(map[string]any{"org": map[string]any{"unit": map[string]any{"name": "mesh"}, "roles": []string{"admin"}}, "level": 7, "on": true}),
		"nosub":       good.token(map[string]any{"sub": nil}),
		"other":       good.token(map[string]any{"iss": "https://other.example"}),
		"expired":     good.token(map[string]any{"exp": testTime.Unix() - 61}),
		"justNow":     good.token(map[string]any{"exp": testTime.Unix() - 60}),
		"early":       good.token(map[string]any{"nbf": testTime.Unix() + 61}),
		"almost":      good.token(map[string]any{"nbf": testTime.Unix() + 60}),
		"forever":     good.token(map[string]any{"exp": nil}),
		"forged":      stranger.token(nil),
		"aud":         good.token(map[string]any{"aud": "https://shop.example/"}),
		"wrongAud":    good.token(map[string]any{"aud": "elsewhere"}),
		"customWords": good.token(map[string]any{"perms": "a b"}),
	}
}
