//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/scrape"
	"github.com/telemesh/telemesh/internal/vocab"
)

// truncate cuts a file in half, as a full disk or a crash of the machine does.
func truncate(t *testing.T, file string) {
	t.Helper()
	info, err := os.Stat(file)
	if err == nil {
		err = os.Truncate(file, info.Size()/2)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// flip turns bits over: in the middle of a log, at the start of a document.
func flip(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := len(b) / 2
	if filepath.Ext(file) == ".json" {
		at = 0
	}
	b[at] ^= 0xff
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// largest is the largest file that matches a pattern.
func largest(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var found string
	size := int64(-1)
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() && info.Size() > size {
			found, size = f, info.Size()
		}
	}
	if size < 2 {
		t.Fatalf("no file to damage: %s", pattern)
	}
	return found
}

// The hub is killed, its data damaged, and it is started again, once for each
// kind of damage. It must start, say so, count what is damage, and know within
// seconds again everything that its sidecars still know.
func TestAHubStartsOnDamagedData(t *testing.T) {
	d := startDemo(t, "--rate", slow)
	client := d.through()
	// One request on an edge that has no other: no later one tells its count.
	if a, err := call(client, "http://details:9080/details/0"); err != nil || a.status != http.StatusOK {
		t.Fatalf("details answers %d, %v", a.status, err)
	}
	d.settled(t, client)
	h := d.killHub()
	data := filepath.Join(d.dir, "data", "hub")
	for _, c := range []struct {
		name, file string
		damage     func(*testing.T, string)
		says       string
		counted    bool
	}{
		{"log torn", "records/*.log", truncate, "log ends in mid-write", false},
		{"log flipped", "records/*.log", flip, "log is damaged", true},
		{"metrics truncated", "metrics/wal/0*", truncate, "", false},
		{"metrics flipped", "metrics/wal/0*", flip, "metrics database was damaged", true},
		{"layout truncated", "layout.json", truncate, "remembered layout is unusable", true},
		{"layout flipped", "layout.json", flip, "remembered layout is unusable", true},
		{"sidecars truncated", "sidecars.json", truncate, "remembered sidecars are unusable", true},
		{"sidecars flipped", "sidecars.json", flip, "remembered sidecars are unusable", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.damage(t, largest(t, filepath.Join(data, c.file)))
			h.start(t)
			defer h.kill()
			// The log comes through a pipe, a moment after the hub listens.
			eventually(t, 5*time.Second, "the log says "+c.says, func() error {
				if log := h.errs.String(); !strings.Contains(log, c.says) {
					return errors.New(log)
				}
				return nil
			})
			n, err := scrape.Sum(t.Context(), d.Hub, vocab.MetricHubCorrupt, nil)
			if err != nil {
				t.Fatal(err)
			}
			// A truncated write-ahead log may end between two entries.
			if c.says != "" && (n > 0) != c.counted {
				t.Errorf("%s is %.0f", vocab.MetricHubCorrupt, n)
			}
			d.settled(t, client)
		})
	}
}

// settled sends requests through the mesh and checks that the hub does its
// work: finds them, counts them, and keeps the graph's places.
func (d *demo) settled(t *testing.T, client *http.Client) {
	t.Helper()
	var last answer
	for range 10 {
		a, err := call(client, "http://productpage:9080/productpage")
		if err != nil || a.status != http.StatusOK {
			t.Fatalf("productpage answers %d, %v", a.status, err)
		}
		last = a
	}
	id := last.header.Get("X-Request-Id")
	if out, errs, code := d.meshctl("trace", id, "--wait", "5s"); code != 0 || !strings.Contains(out, "details-v1") {
		t.Errorf("meshctl trace %s: exit %d\n%s%s", id, code, out, errs)
	}
	d.countsAgree(t)
	eventually(t, 10*time.Second, "places of the graph are remembered", func() error {
		b, err := os.ReadFile(filepath.Join(d.dir, "data", "hub", "layout.json"))
		if err == nil && !strings.Contains(string(b), "default/productpage-v1") {
			err = errors.New("productpage-v1 has no place")
		}
		if err != nil {
			return fmt.Errorf("layout.json: %w", err)
		}
		return nil
	})
}
