package jwt

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// MaxBytes of a token; a longer one is not in the form of a token.
const MaxBytes = 16 << 10

// algorithms that are accepted. None and HMAC are not among them: a key set holds
// public keys, which everybody could sign with.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// Token is a token that is not verified yet.
type Token struct {
	text      string
	algorithm string
	keyID     string
	// Issuer is what the token says of itself.
	Issuer    string
	subject   string
	audiences []string
	expires   int64 // Unix seconds, 0 for never
	notBefore int64
	payload   string // as it came
	claims    map[string]any
}

// Parse reads a token. It checks the form and no signature.
func Parse(text string) (*Token, *Failure) {
	header, rest, first := strings.Cut(text, ".")
	payload, signature, second := strings.Cut(rest, ".")
	if !first || !second || strings.Contains(signature, ".") || len(text) > MaxBytes {
		return nil, ErrForm
	}
	t := &Token{text: text, payload: payload}
	if f := t.readHeader(header); f != nil {
		return nil, f
	}
	if f := t.readPayload(payload); f != nil {
		return nil, f
	}
	if _, err := decode(signature); err != nil || signature == "" {
		return nil, ErrSignatureForm
	}
	return t, nil
}

// decode is base64url without padding, and only the one text for given bytes.
func decode(s string) ([]byte, error) { return base64.RawURLEncoding.Strict().DecodeString(s) }

func (t *Token) readHeader(s string) *Failure {
	b, err := decode(s)
	if err != nil {
		return ErrHeaderEncoding
	}
	fields, err := object(b)
	if err != nil {
		return ErrHeaderJSON
	}
	ok := false
	if t.algorithm, ok = fields["alg"].(string); !ok {
		return ErrHeaderAlg
	}
	if !supported(t.algorithm) {
		return ErrAlg
	}
	if kid, given := fields["kid"]; given {
		if t.keyID, ok = kid.(string); !ok {
			return ErrHeaderJSON
		}
	}
	return nil
}

func supported(algorithm string) bool {
	for _, a := range algorithms {
		if string(a) == algorithm {
			return true
		}
	}
	return false
}

func (t *Token) readPayload(s string) *Failure {
	b, err := decode(s)
	if err != nil {
		return ErrPayloadEncoding
	}
	if t.claims, err = object(b); err != nil {
		return ErrPayloadJSON
	}
	ok := [...]bool{
		optional(t.claims, "iss", &t.Issuer), optional(t.claims, "sub", &t.subject),
		seconds(t.claims, "exp", &t.expires), seconds(t.claims, "nbf", &t.notBefore), true,
	}
	switch aud := t.claims["aud"].(type) {
	case nil:
	case string:
		t.audiences = []string{aud}
	case []any:
		for _, a := range aud {
			text, isText := a.(string)
			ok[4] = ok[4] && isText
			t.audiences = append(t.audiences, text)
		}
	default:
		return ErrPayloadField
	}
	for _, good := range ok {
		if !good {
			return ErrPayloadField
		}
	}
	return nil
}

// object decodes one JSON object and nothing behind it. Numbers keep their text.
// A name that is given twice is refused: two readers could take different ones.
func object(b []byte) (map[string]any, error) {
	if err := unique(json.NewDecoder(bytes.NewReader(b))); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var fields map[string]any
	if err := d.Decode(&fields); err != nil {
		return nil, err
	}
	if fields == nil {
		return nil, errors.New("no object")
	}
	return fields, nil
}

// unique reads one value and the end of the text.
func unique(d *json.Decoder) error {
	if err := uniqueValue(d); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}

func uniqueValue(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	open, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	seen := make(map[string]bool)
	for d.More() {
		if open == '{' {
			name, err := d.Token()
			if err != nil {
				return err
			}
			text, _ := name.(string)
			if seen[text] {
				return errors.New("a name is given twice")
			}
			seen[text] = true
		}
		if err := uniqueValue(d); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

func optional(fields map[string]any, name string, into *string) bool {
	v, given := fields[name]
	if !given {
		return true
	}
	s, ok := v.(string)
	*into = s
	return ok
}

// seconds reads a NumericDate (RFC 7519, section 2), which may have a fraction.
func seconds(fields map[string]any, name string, into *int64) bool {
	v, given := fields[name]
	if !given {
		return true
	}
	n, ok := v.(json.Number)
	if !ok {
		return false
	}
	f, err := n.Float64()
	if err != nil || f < 0 || f > math.MaxInt64/4 {
		return false
	}
	*into = int64(f)
	return true
}

// skew is how much clocks may differ (Envoy's clock_skew_seconds).
const skew = 60

// checkTime compares with the clock as Envoy does.
func (t *Token) checkTime(now time.Time) *Failure {
	switch at := now.Unix(); {
	case at+skew < t.notBefore:
		return ErrNotYetValid
	case t.expires != 0 && at > t.expires+skew:
		return ErrExpired
	}
	return nil
}

// checkAudience wants one of allowed among the token's; none allowed means any.
func (t *Token) checkAudience(allowed []string) *Failure {
	if len(allowed) == 0 {
		return nil
	}
	for _, a := range t.audiences {
		for _, b := range allowed {
			if a != "" && sameAudience(a, b) {
				return nil
			}
		}
	}
	return ErrAudience
}

// sameAudience ignores the scheme and a slash at the end, as Envoy does.
func sameAudience(a, b string) bool { return bareAudience(a) == bareAudience(b) }

func bareAudience(s string) string {
	for _, scheme := range []string{"https://", "http://"} {
		if rest, ok := strings.CutPrefix(s, scheme); ok {
			s = rest
			break
		}
	}
	return strings.TrimSuffix(s, "/")
}
