package jwt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	jose "github.com/go-jose/go-jose/v4"
)

// maxKeys of a set: a token without a key ID is tried with every one.
const maxKeys = 64

// Keys is a key set. Immutable.
type Keys struct {
	keys []jose.JSONWebKey
	raw  []byte
}

// ParseKeys reads a JSON Web Key Set (RFC 7517), or one key. Keys that are
// not public signature keys are left out; without any other it is an error.
func ParseKeys(data []byte) (*Keys, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("not a JSON Web Key Set: %w", err)
	}
	if set.Keys == nil {
		set.Keys = []json.RawMessage{data}
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("key set has %d keys, want at most %d", len(set.Keys), maxKeys)
	}
	k := &Keys{raw: bytes.Clone(data)}
	var errs []error
	for i, raw := range set.Keys {
		var key jose.JSONWebKey
		err := key.UnmarshalJSON(raw)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("key %d: %w", i, err))
		case !key.Valid() || !key.IsPublic():
			errs = append(errs, fmt.Errorf("key %d: not a public key", i))
		case key.Use != "" && key.Use != "sig":
			errs = append(errs, fmt.Errorf("key %d: use is %q, not sig", i, key.Use))
		default:
			k.keys = append(k.keys, key)
		}
	}
	if len(k.keys) == 0 {
		return nil, fmt.Errorf("key set has no public key for signatures: %w", errors.Join(errs...))
	}
	return k, nil
}

// verify checks the token's signature with each key that its header allows.
func (k *Keys) verify(t *Token) *Failure {
	var signed *jose.JSONWebSignature
	for i := range k.keys {
		key := &k.keys[i]
		if t.keyID != "" && key.KeyID != "" && key.KeyID != t.keyID || key.Algorithm != "" && key.Algorithm != t.algorithm {
			continue
		}
		if signed == nil {
			var err error
			if signed, err = jose.ParseSignedCompact(t.text, algorithms); err != nil {
				return ErrVerification
			}
		}
		if _, err := signed.Verify(key.Key); err == nil {
			return nil
		}
	}
	if signed == nil {
		return ErrNoKey
	}
	return ErrVerification
}
