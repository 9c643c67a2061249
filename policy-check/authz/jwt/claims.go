package jwt

import (
	"encoding/json"
	"strings"
)

// Claims are what a verified token says. Immutable and safe for concurrent use.
type Claims struct {
	Issuer, Subject string
	Audiences       []string
	// Payload is the token's middle part, base64url as it came.
	Payload string
	// expires is in Unix seconds, 0 for never.
	expires int64
	text    string // the whole token
	values  map[string]any
	// delimited are the parts of claims that are lists of words.
	delimited map[string][]string
}

// alwaysDelimited are the claims that Istio reads as lists of words.
var alwaysDelimited = []string{"scope", "permission"}

func newClaims(t *Token, delimited []string) *Claims {
	c := &Claims{Issuer: t.Issuer, Subject: t.subject, Audiences: t.audiences, Payload: t.payload, text: t.text, expires: t.expires, values: t.claims}
	for _, names := range [][]string{alwaysDelimited, delimited} {
		for _, name := range names {
			if s, ok := t.claims[name].(string); ok {
				if c.delimited == nil {
					c.delimited = make(map[string][]string)
				}
				c.delimited[name] = strings.Fields(s)
			}
		}
	}
	return c
}

// Any calls match with the claim's text, or with each text of a list, until it
// returns true. path leads through nested claims. Other values than texts don't
// match (Envoy's metadata matchers compare texts only).
func (c *Claims) Any(path []string, match func(string) bool) bool {
	if len(path) == 1 {
		if words, ok := c.delimited[path[0]]; ok {
			for _, w := range words {
				if match(w) {
					return true
				}
			}
			return false
		}
	}
	switch v := c.at(path).(type) {
	case string:
		return match(v)
	case []any:
		for _, one := range v {
			if s, ok := one.(string); ok && match(s) {
				return true
			}
		}
	}
	return false
}

// Text is a claim as a header carries it: a text, a number or a bool. path is
// the claim's name, or names of nested claims.
func (c *Claims) Text(path []string) (string, bool) {
	switch v := c.at(path).(type) {
	case string:
		return v, !strings.ContainsAny(v, "\r\n\x00")
	case json.Number:
		return v.String(), true
	case bool:
		if v {
			return "true", true
		}
		return "false", true
	}
	return "", false
}

func (c *Claims) at(path []string) any {
	var v any = c.values
	for _, name := range path {
		fields, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = fields[name]
	}
	return v
}
