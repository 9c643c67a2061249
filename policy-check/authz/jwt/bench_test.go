package jwt

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"testing"

	jose "github.com/go-jose/go-jose/v4"
)

// BenchmarkVerify is what a token costs the first time, and later.
func BenchmarkVerify(b *testing.B) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	for a, key := range map[jose.SignatureAlgorithm]crypto.Signer{jose.RS256: r, jose.ES256: ecKey(b)} {
		v := NewVerifier(Rule{Issuer: "me", Keys: Inline(parsed(b, set(b, jose.JSONWebKey{Key: key.Public(), KeyID: "k"})))}, clock)
		text := sign(b, a, key, "k", map[string]any{"groups": []string{"dev", "ops"}})
		b.Run(string(a)+" first", func(b *testing.B) {
			for b.Loop() {
				if err := verify(v, text); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(string(a)+" known", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if v.Known(text) == nil {
					b.Fatal("not known")
				}
			}
		})
	}
}
