package jwt

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

var now = time.Unix(1_800_000_000, 0)

func clock() time.Time { return now }

func sign(tb testing.TB, a jose.SignatureAlgorithm, key any, kid string, claims map[string]any) string {
	tb.Helper()
	all := map[string]any{"iss": "me", "sub": "alice"}
	for k, v := range claims {
		all[k] = v
	}
	b, err := json.Marshal(all)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: a, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	signed, err := s.Sign(b)
	if err != nil {
		tb.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func set(tb testing.TB, keys ...jose.JSONWebKey) []byte {
	tb.Helper()
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func parsed(tb testing.TB, jwks []byte) *Keys {
	tb.Helper()
	k, err := ParseKeys(jwks)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func ecKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// verify parses and verifies.
func verify(v *Verifier, text string) error {
	t, f := Parse(text)
	if f == nil {
		_, f = v.Verify(context.Background(), t)
	}
	if f != nil {
		return f
	}
	return nil
}

func TestEveryAlgorithmOfPublicKeys(t *testing.T) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	e521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	for a, key := range map[jose.SignatureAlgorithm]crypto.Signer{
		jose.RS256: r, jose.RS384: r, jose.RS512: r, jose.PS256: r, jose.PS384: r, jose.PS512: r,
		jose.ES256: ecKey(t), jose.ES384: e384, jose.ES512: e521, jose.EdDSA: ed,
	} {
		v := NewVerifier(Rule{Issuer: "me", Keys: Inline(parsed(t, set(t, jose.JSONWebKey{Key: key.Public(), KeyID: "k"})))}, clock)
		text := sign(t, a, key, "k", nil)
		if err := verify(v, text); err != nil {
			t.Errorf("%s: %v", a, err)
		}
		at := strings.LastIndexByte(text, '.') + 1
		forged := text[:at] + string(flipped(text[at])) + text[at+1:]
		if err := verify(v, forged); err != ErrVerification {
			t.Errorf("%s, changed signature: %v", a, err)
		}
	}
}

func flipped(c byte) byte {
	if c == 'A' {
		return 'B'
	}
	return 'A'
}

func segment(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// TestForgersTricks are the classic ones.
func TestForgersTricks(t *testing.T) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other := ecKey(t)
	jwks := set(t, jose.JSONWebKey{Key: r.Public(), KeyID: "k"})
	v := NewVerifier(Rule{Issuer: "me", Keys: Inline(parsed(t, jwks))}, clock)
	payload := segment(`{"iss":"me","sub":"root"}`)
	good := sign(t, jose.RS256, r, "k", nil)
	parts := strings.Split(good, ".")
	der, err := x509.MarshalPKIXPublicKey(r.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	embedded, err := json.Marshal(jose.JSONWebKey{Key: other.Public()})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		text string
		want *Failure
	}{
		"no algorithm":                 {segment(`{"alg":"none"}`) + "." + payload + ".", ErrAlg},
		"no algorithm, in capitals":    {segment(`{"alg":"NONE"}`) + "." + payload + "." + segment("x"), ErrAlg},
		"the public key as a secret":   {sign(t, jose.HS256, public, "k", nil), ErrAlg},
		"a key in the header":          {resign(t, other, `{"alg":"ES256","jwk":`+string(embedded)+`}`, payload), ErrVerification},
		"another key's type":           {sign(t, jose.ES256, other, "k", nil), ErrVerification},
		"another key's ID":             {sign(t, jose.RS256, r, "k2", nil), ErrNoKey},
		"another payload":              {parts[0] + "." + payload + "." + parts[2], ErrVerification},
		"another header":               {segment(`{"alg":"RS512","kid":"k"}`) + "." + parts[1] + "." + parts[2], ErrVerification},
		"an extension that is unknown": {resign(t, other, `{"alg":"ES256","crit":["x"],"x":1}`, payload), ErrVerification},
		"no signature":                 {parts[0] + "." + parts[1] + ".", ErrSignatureForm},
		"four parts":                   {good + ".x", ErrForm},
		"two parts":                    {parts[0] + "." + parts[1], ErrForm},
		"padding":                      {parts[0] + "=." + parts[1] + "." + parts[2], ErrHeaderEncoding},
		"a name twice":                 {parts[0] + "." + segment(`{"iss":"me","iss":"you"}`) + "." + parts[2], ErrPayloadJSON},
		"a time that is no number":     {parts[0] + "." + segment(`{"iss":"me","exp":"1"}`) + "." + parts[2], ErrPayloadField},
		"a time below zero":            {parts[0] + "." + segment(`{"iss":"me","exp":-1}`) + "." + parts[2], ErrPayloadField},
		"more than one value":          {parts[0] + "." + segment(`{"iss":"me"}{}`) + "." + parts[2], ErrPayloadJSON},
		"too long":                     {good + strings.Repeat("A", MaxBytes), ErrForm},
	} {
		if err := verify(v, tc.text); err != tc.want {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if err := verify(v, good); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// resign signs header and payload as they are.
func resign(tb testing.TB, key *ecdsa.PrivateKey, header, payload string) string {
	tb.Helper()
	text := segment(header) + "." + payload
	digest := crypto.SHA256.New()
	digest.Write([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest.Sum(nil))
	if err != nil {
		tb.Fatal(err)
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func TestPrivateAndSecretKeysAreNoKeySet(t *testing.T) {
	for name, jwks := range map[string]string{
		"private":        string(set(t, jose.JSONWebKey{Key: ecKey(t)})),
		"secret":         `{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`,
		"for encryption": string(set(t, jose.JSONWebKey{Key: ecKey(t).Public(), Use: "enc"})),
		"none":           `{"keys":[]}`, "text": `x`,
	} {
		if _, err := ParseKeys([]byte(jwks)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// server is a fake of what serves key sets.
type server struct {
	mu    sync.Mutex
	body  []byte
	err   error
	hang  bool
	calls atomic.Int64
}

func (s *server) set(body []byte, err error, hang bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body, s.err, s.hang = body, err, hang
}

func (s *server) fetch(ctx context.Context, _ string) ([]byte, error) {
	s.calls.Add(1)
	s.mu.Lock()
	body, err, hang := s.body, s.err, s.hang
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	time.Sleep(10 * time.Millisecond) // of the bubble
	return body, err
}

// remote is a verifier whose keys the server has, in a bubble.
func remote(t *testing.T, s *server, timeout time.Duration) (*Verifier, *Store) {
	store := NewStore(s.fetch, nil, nil)
	t.Cleanup(store.Close)
	return NewVerifier(Rule{Issuer: "me", Keys: store.Source("http://keys", timeout)}, nil), store
}

func TestManyRequestsShareOneFetch(t *testing.T) {
	key := ecKey(t)
	text := sign(t, jose.ES256, key, "k", nil)
	jwks := set(t, jose.JSONWebKey{Key: key.Public(), KeyID: "k"})
	synctest.Test(t, func(t *testing.T) {
		s := &server{body: jwks}
		v, _ := remote(t, s, time.Second)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := verify(v, text); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := s.calls.Load(); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
		time.Sleep(refreshAfter + time.Second)
		began := time.Now()
		if err := verify(v, text); err != nil || time.Since(began) != 0 {
			t.Errorf("with old keys: %v after %s, want at once", err, time.Since(began))
		}
		synctest.Wait()
		time.Sleep(time.Second)
		if n := s.calls.Load(); n != 2 {
			t.Errorf("%d fetches after the refresh, want 2", n)
		}
	})
}

func TestADeadServerStallsNobodyForLonger(t *testing.T) {
	key := ecKey(t)
	text := sign(t, jose.ES256, key, "k", nil)
	jwks := set(t, jose.JSONWebKey{Key: key.Public(), KeyID: "k"})
	synctest.Test(t, func(t *testing.T) {
		const timeout = 3 * time.Second
		s := &server{hang: true}
		v, _ := remote(t, s, timeout)
		took := func(want error) time.Duration {
			t.Helper()
			began := time.Now()
			err := verify(v, text)
			if want == nil && err != nil || want != nil && !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
			return time.Since(began)
		}
		for range 20 {
			if d := took(ErrKeysUnavailable); d > timeout {
				t.Errorf("never any keys: stalled for %s", d)
			}
			time.Sleep(300 * time.Millisecond)
		}
		s.set(jwks, nil, false)
		time.Sleep(timeout + retryAfter)
		took(nil)
		// The last good keys stay, however long the server is dead.
		for _, failure := range []func(){func() { s.set(nil, nil, true) }, func() { s.set(nil, errors.New("refused"), false) }, func() { s.set([]byte("{}"), nil, false) }} {
			failure()
			time.Sleep(3 * staleAfter)
			total := time.Duration(0)
			for range 50 {
				total += took(nil)
				time.Sleep(time.Second)
			}
			if total > timeout {
				t.Errorf("old keys: 50 requests stalled for %s together", total)
			}
		}
	})
}

func TestAServerThatIgnoresItsDeadlineStallsNobodyForLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewStore(func(context.Context, string) ([]byte, error) { time.Sleep(time.Hour); return nil, nil }, nil, nil)
		defer store.Close()
		v := NewVerifier(Rule{Issuer: "me", Keys: store.Source("http://keys", time.Second)}, nil)
		began := time.Now()
		if err := verify(v, sign(t, jose.ES256, ecKey(t), "k", nil)); err != ErrKeysUnavailable || time.Since(began) != time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestANewKeyIsFetchedWhenATokenNamesIt(t *testing.T) {
	first, second := ecKey(t), ecKey(t)
	one, two := jose.JSONWebKey{Key: first.Public(), KeyID: "1"}, jose.JSONWebKey{Key: second.Public(), KeyID: "2"}
	firstText, secondText := sign(t, jose.ES256, first, "1", nil), sign(t, jose.ES256, second, "2", nil)
	old, both, newer := set(t, one), set(t, one, two), set(t, two)
	synctest.Test(t, func(t *testing.T) {
		s := &server{body: old}
		v, _ := remote(t, s, time.Second)
		if err := verify(v, firstText); err != nil {
			t.Fatal(err)
		}
		s.set(both, nil, false)
		if err := verify(v, secondText); err != ErrNoKey {
			t.Errorf("right after a fetch: %v, want no other one", err)
		}
		time.Sleep(unknownAfter)
		if err := verify(v, secondText); err != nil {
			t.Errorf("after the rotation: %v", err)
		}
		calls := s.calls.Load()
		for i := range 100 {
			_ = verify(v, sign(t, jose.ES256, first, fmt.Sprint("no", i), nil))
		}
		if n := s.calls.Load(); n > calls {
			t.Errorf("a flood of key IDs caused %d fetches", n-calls)
		}
		// What was verified with a key that is gone is not known any more.
		if v.Known(secondText) == nil {
			t.Error("a verified token is not remembered")
		}
		if err := verify(v, firstText); err != nil {
			t.Error(err)
		}
		s.set(newer, nil, false)
		time.Sleep(staleAfter)
		_ = verify(v, secondText)
		if v.Known(firstText) != nil {
			t.Error("a token of a withdrawn key is still known")
		}
		if err := verify(v, firstText); err != ErrNoKey {
			t.Errorf("a token of a withdrawn key: %v", err)
		}
	})
}

func TestAKnownTokenIsVerifiedOnceUntilItExpires(t *testing.T) {
	key := ecKey(t)
	at := now
	v := NewVerifier(Rule{Issuer: "me", Keys: Inline(parsed(t, set(t, jose.JSONWebKey{Key: key.Public(), KeyID: "k"})))}, func() time.Time { return at })
	text := sign(t, jose.ES256, key, "k", map[string]any{"exp": now.Add(time.Minute).Unix()})
	if v.Known(text) != nil {
		t.Fatal("known before")
	}
	if err := verify(v, text); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = v.Known(text) }); v.Known(text) == nil || n != 0 {
		t.Errorf("not known, or %v allocs/op", n)
	}
	at = now.Add(2 * time.Minute)
	if v.Known(text) == nil {
		t.Error("forgotten before the clocks' difference is over")
	}
	if at = at.Add(time.Second); v.Known(text) != nil {
		t.Error("known after it has expired")
	}
	if err := verify(v, text); err != ErrExpired {
		t.Errorf("expired: %v", err)
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	var c cache
	keys := &Keys{}
	size := func() (n int) {
		for _, m := range []map[string]cached{c.young, c.old} {
			for text := range m {
				n += len(text)
			}
		}
		return n
	}
	first := strings.Repeat("x", 1000)
	c.put(first, keys, &Claims{text: first})
	for i := range 5000 {
		text := fmt.Sprintf("%01000d", i)
		c.put(text, keys, &Claims{text: text})
		if i%100 == 0 && c.get(first, keys) == nil {
			t.Fatalf("a token that is in use is forgotten after %d others", i)
		}
	}
	if size() > 2*maxCached {
		t.Errorf("%d bytes of text, want at most %d", size(), 2*maxCached)
	}
	if c.get(first, &Keys{}) != nil {
		t.Error("known with other keys")
	}
}

func FuzzParse(f *testing.F) {
	key := ecKey(f)
	v := NewVerifier(Rule{Issuer: "me", Keys: Inline(parsed(f, set(f, jose.JSONWebKey{Key: key.Public(), KeyID: "k"})))}, clock)
	good := sign(f, jose.ES256, key, "k", map[string]any{"aud": []string{"a"}, "nbf": 1.5, "scope": "a b"})
	f.Add(good)
	f.Add(segment(`{"alg":"none"}`) + "." + segment(`{}`) + ".")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		token, failure := Parse(text)
		if (token == nil) == (failure == nil) {
			t.Fatalf("token %v, failure %v", token, failure)
		}
		if failure != nil {
			return
		}
		// Nobody here has the key: only the seed is valid.
		if c, failure := v.Verify(t.Context(), token); failure == nil && text != good && c.Subject != "alice" {
			t.Errorf("%q is valid", text)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add(set(f, jose.JSONWebKey{Key: ecKey(f).Public(), KeyID: "k"}))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`))
	f.Add([]byte(`{"kty":"OKP","crv":"Ed25519","x":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := ParseKeys(data)
		if err == nil && (len(k.keys) == 0 || len(k.keys) > maxKeys) {
			t.Errorf("%d keys", len(k.keys))
		}
	})
}
