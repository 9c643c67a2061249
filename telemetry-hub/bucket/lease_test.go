package bucket

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const testTerm = time.Minute

func newLease(t *testing.T, b *Bucket) *Lease {
	t.Helper()
	l, err := b.Lease("retention", testTerm)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func wantLease(t *testing.T, when string, l *Lease, want bool) {
	t.Helper()
	got, err := l.Renew(t.Context())
	if err != nil || got != want || l.Held() != want {
		t.Errorf("%s: %s has it: %v, held %v, want %v: %v", when, l.b.o.Hub, got, l.Held(), want, err)
	}
}

func TestOneHubHoldsALease(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		c := newClock()
		a, b := newLease(t, p.hub(t, "a", c.option)), newLease(t, p.hub(t, "b", c.option))
		wantLease(t, "first", a, true)
		if !a.Exclusive() {
			t.Error("the store creates an object twice")
		}
		for range 5 {
			wantLease(t, "while it is renewed", b, false)
			c.add(testTerm / RenewParts)
			wantLease(t, "while it is renewed", a, true)
		}
		wantLease(t, "seen last", b, false)
		wantLease(t, "not renewed yet", b, false)
		c.add(testTerm)
		if a.Held() {
			t.Error("held after its term")
		}
		wantLease(t, "after it lapsed", b, true)
		wantLease(t, "too late", a, false)
		if err := b.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b.Held() {
			t.Error("held after its release")
		}
		wantLease(t, "released", a, true)
		c.add(2 * testTerm)
		wantLease(t, "lapsed, but nobody took it", a, true)
		if err := errors.Join(b.Release(t.Context()), a.Release(t.Context()), a.Release(t.Context())); err != nil {
			t.Error(err)
		}
		if terms := p.objects(t, leaseRoot); len(terms) > 3 {
			t.Errorf("terms pile up: %v", terms)
		}
	})
}

func TestOfManyAtOnceOneGetsTheLease(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		var leases []*Lease
		for range 8 { // of one name: two runs of a hub are two as well
			leases = append(leases, newLease(t, p.hub(t, "a")))
		}
		var wg sync.WaitGroup
		for _, l := range leases {
			wg.Go(func() {
				if _, err := l.Renew(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		held := 0
		for _, l := range leases {
			if l.Held() {
				held++
			}
		}
		if held != 1 {
			t.Errorf("%d hold it", held)
		}
	})
}

// TestWhoSleptTooLongHasNoLease wakes a hub between its look at the newest term
// and its own, when the terms that it would add are deleted already.
func TestWhoSleptTooLongHasNoLease(t *testing.T) {
	p := folderPlace(t)
	c := newClock()
	a := newLease(t, p.hub(t, "a", c.option))
	wantLease(t, "first", a, true)
	slept := false
	p.alter = func(f *fault) {
		f.before = func(op, _ string) error {
			if op == "put" && !slept {
				slept = true
				for range 5 {
					wantLease(t, "meanwhile", a, true)
				}
			}
			return nil
		}
	}
	b := newLease(t, p.hub(t, "b", c.option))
	wantLease(t, "first look", b, false)
	c.add(testTerm)
	wantLease(t, "awake", b, false)
	if !slept {
		t.Fatal("it did not sleep")
	}
	wantLease(t, "afterwards", a, true)
}

// TestALostAnswerIsNoLostLease fails the answer of the creation, not the
// creation.
func TestALostAnswerIsNoLostLease(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		lost := false
		p.alter = func(f *fault) {
			f.after = func(op, _ string) error {
				if op == "put" && !lost {
					lost = true
					return errors.New("connection reset")
				}
				return nil
			}
		}
		wantLease(t, "first", newLease(t, p.hub(t, "a")), true)
	})
}

// TestARenewalThatWasInterruptedCanBeReleased ends a renewal between the creation
// of its term and the look at it.
func TestARenewalThatWasInterruptedCanBeReleased(t *testing.T) {
	p := folderPlace(t)
	ctx, cancel := context.WithCancel(t.Context())
	puts := 0
	p.alter = func(f *fault) {
		f.after = func(op, _ string) error {
			if op == "put" {
				if puts++; puts == 2 {
					cancel()
				}
			}
			return nil
		}
	}
	a := newLease(t, p.hub(t, "a"))
	wantLease(t, "first", a, true)
	if _, err := a.Renew(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.alter = nil
	wantLease(t, "released", newLease(t, p.hub(t, "b")), true)
}

func TestALeaseWithoutConditionsSaysSo(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		p.alter = func(f *fault) { f.twice = true }
		a := newLease(t, p.hub(t, "a"))
		if _, err := a.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a.Exclusive() {
			t.Error("it says that it is exclusive")
		}
		b := newLease(t, p.hub(t, "b"))
		if ours, err := b.Renew(t.Context()); ours || err != nil {
			t.Error("who comes later has it:", ours, err)
		}
	})
}

func TestALeaseThatCannotBeReadLapses(t *testing.T) {
	p := folderPlace(t)
	c := newClock()
	a := newLease(t, p.hub(t, "a", c.option))
	wantLease(t, "first", a, true)
	if err := os.WriteFile(filepath.Join(p.files, a.object(1)), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	b := newLease(t, p.hub(t, "b", c.option))
	wantLease(t, "unreadable", b, false)
	c.add(testTerm)
	wantLease(t, "lapsed", b, true)
	if _, err := a.b.Lease("a/b", 0); err == nil || !strings.Contains(err.Error(), "lease") {
		t.Error(err)
	}
}

func TestAHubGoesOnWithItsLogUntilAnotherHasIt(t *testing.T) {
	c := newClock()
	p := folderPlace(t)
	run := func(hub, nonce string) *Lease {
		l, err := p.hub(t, hub, c.option).ChunkLease("a", nonce, testTerm)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	wantLost := func(when string, l *Lease, want bool) {
		t.Helper()
		if lost, err := l.Lost(t.Context()); err != nil || lost != want {
			t.Errorf("%s: lost %v, want %v: %v", when, lost, want, err)
		}
	}
	a, b := run("a", "disk of a"), run("b", "disk of b")
	wantLost("nobody had it", a, false)
	wantLease(t, "first", a, true)
	wantLease(t, "a lives", b, false)
	c.add(testTerm / 2)
	again := run("a", "disk of a")
	wantLost("a has started again", again, false)
	wantLease(t, "a has started again", again, true)
	wantLease(t, "a lives again", b, false)
	c.add(testTerm)
	wantLease(t, "a is gone", b, true)
	wantLost("b has it", again, true)
	if err := b.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantLost("b is done", run("a", "disk of a"), true)
}
