package store

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// identityFile is who the hub is in the bucket. It stands beside the log, and is
// lost with it: numbers of logs under a name are given once.
const identityFile = "hub.json"

// identity is a hub in the bucket.
type identity struct {
	Name  string `json:"name"`
	Nonce string `json:"nonce"` // by which it resumes the lease on its log
}

// maxHub bounds the part of a name that an operator chooses.
const maxHub = 60

// identify reads the identity of the store in dir, or makes one that begins with
// hub.
func identify(dir, hub string) (id identity, err error) {
	path := filepath.Join(dir, identityFile)
	b, err := os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(b, &id); err != nil || id.Name == "" || id.Nonce == "" {
			return id, fmt.Errorf("%s does not say who this hub is in the bucket: write {\"name\": NAME, \"nonce\": ANYTHING} with the name that its objects have there, or move the folder away", path)
		}
		return id, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return id, fmt.Errorf("read the hub's name: %w", err)
	}
	id = identity{Name: objectName(hub) + "-" + strings.ToLower(rand.Text()[:6]), Nonce: rand.Text()}
	if b, err = json.Marshal(id); err != nil {
		return id, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return id, fmt.Errorf("create store: %w", err)
	}
	return id, writeDurably(path, b)
}

// objectName makes a name that can stand in that of an object.
func objectName(s string) string {
	s = strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c) {
			return c
		}
		return '-'
	}, s)
	if s = s[:min(len(s), maxHub)]; s == "" {
		return "hub"
	}
	return s
}

// writeDurably writes a file whole or not at all.
func writeDurably(path string, b []byte) error {
	f, err := os.Create(path + newSuffix)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+newSuffix, path)
}

// setAside makes room for a new store. The last one that was set aside is kept.
func setAside(dir string) error {
	aside := filepath.Clean(dir) + "-taken-over"
	if err := os.RemoveAll(aside); err != nil {
		return fmt.Errorf("set the old records aside: %w", err)
	}
	if err := os.Rename(dir, aside); err != nil {
		return fmt.Errorf("set the old records aside: %w", err)
	}
	return nil
}
