package bucket

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func newRetention(t *testing.T, b *Bucket, o RetentionOptions, metas func() []Meta) *Retention {
	t.Helper()
	r, err := NewRetention(b, o, metas)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantPass(t *testing.T, when string, r *Retention, want Removed) {
	t.Helper()
	if got, err := r.Pass(t.Context()); got != want || err != nil {
		t.Errorf("%s: %+v, want %+v: %v", when, got, want, err)
	}
}

// threeDays uploads a segment for each of the last three days, the oldest first.
func threeDays(t *testing.T, b *Bucket, c *clock) (metas []Meta) {
	t.Helper()
	for i := range 3 {
		metas = append(metas, upload(t, b, oneLog("hub-1", uint64(i)), c.Now().Add(time.Duration(i-3)*24*time.Hour), 0, 100))
	}
	return metas
}

// later puts the clock behind half uploads, and segments behind the clock.
const later = 7 * time.Hour

func TestRetentionHidesFirstAndDeletesAfterGrace(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		c := newClock()
		b := p.hub(t, "hub-1", c.option)
		threeDays(t, b, c)
		c.add(later)
		r := newRetention(t, b, RetentionOptions{MaxAge: 48 * time.Hour}, nil)
		wantPass(t, "first", r, Removed{Segments: 2})
		if n := len(p.objects(t, "v1")); n != 3+2*2 {
			t.Errorf("%d objects, want one whole segment and the parts of two", n)
		}
		wantPass(t, "within grace", r, Removed{})
		c.add(15 * time.Minute)
		wantPass(t, "after grace", r, Removed{Objects: 4})
		if n := len(p.objects(t, "v1")); n != 3 {
			t.Errorf("%d objects are left, want 3", n)
		}
		wantPass(t, "nothing to do", r, Removed{})
		listed, err := b.List(t.Context(), time.Time{}, time.Time{})
		if err != nil || len(listed) != 1 || listed[0].Log.First != 2 {
			t.Fatal(listed, err)
		}
		if err := mustOpen(t, b, listed[0]).Verify(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestRetentionKeepsTheNewestBytes(t *testing.T) {
	p := folderPlace(t)
	c := newClock()
	b := p.hub(t, "hub-1", c.option)
	metas := threeDays(t, b, c)
	size := func(m Meta) int64 { return m.Records.Bytes + m.Index.Bytes }
	o := RetentionOptions{MaxBytes: size(metas[1]) + size(metas[2])}
	wantPass(t, "one too many", newRetention(t, b, o, func() []Meta { return metas }), Removed{Segments: 1})
	listed, err := b.List(t.Context(), time.Time{}, time.Time{})
	if err != nil || !slices.Equal(listed, metas[1:]) {
		t.Error(listed, err)
	}
	o.MaxAge = 36 * time.Hour // takes the second too; the first may be named by both
	wantPass(t, "both bounds", newRetention(t, b, o, func() []Meta { return metas }), Removed{Segments: 2})
}

// TestASweepTakesWhatAnUploadLeft, and nothing else.
func TestASweepTakesWhatAnUploadLeft(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		c := newClock()
		b := p.hub(t, "hub-1", c.option)
		whole := upload(t, b, oneLog("hub-1", 1), testStart, 0, 100)
		half := upload(t, b, oneLog("hub-1", 2), testStart, 100, 100)
		p.delete(t, half.name().meta())
		stray := whole.name().records(strings.Repeat("0", tagDigits)) // another hub's file of the same log
		if err := os.WriteFile(filepath.Join(p.files, stray), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		foreign := recordsRoot + "/" + dayOf(testStart) + "/theirs.parquet"
		if err := os.WriteFile(filepath.Join(p.files, foreign), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		r := newRetention(t, b, RetentionOptions{}, nil)
		wantPass(t, "young", r, Removed{})
		c.add(5 * time.Hour)
		wantPass(t, "still young", r, Removed{})
		c.add(2 * time.Hour)
		wantPass(t, "seen", r, Removed{})
		c.add(time.Hour)
		wantPass(t, "old", r, Removed{Objects: 3})
		want := []string{whole.name().meta(), whole.Records.Name, whole.Index.Name, foreign}
		slices.Sort(want)
		have := p.objects(t, "v1")
		if slices.Sort(have); !slices.Equal(have, want) {
			t.Errorf("left %v, want %v", have, want)
		}
	})
}

// TestASweepAndAnUploadMeet repeats an upload between the sweep's listing and
// its deletion.
func TestASweepAndAnUploadMeet(t *testing.T) {
	p := folderPlace(t)
	c := newClock()
	b := p.hub(t, "hub-1", c.option)
	path := sealed(t, testStart, 0, 100)
	m, err := b.Upload(t.Context(), path, oneLog("hub-1", 1))
	if err != nil {
		t.Fatal(err)
	}
	p.delete(t, m.name().meta())
	meet := false
	p.alter = func(f *fault) {
		f.after = func(op, name string) error {
			if meet && op == "list" && strings.HasPrefix(name, "v1/meta") {
				meet = false
				_, err := b.Upload(t.Context(), path, oneLog("hub-1", 1))
				return err
			}
			return nil
		}
	}
	r := newRetention(t, p.hub(t, "hub-2", c.option), RetentionOptions{}, nil)
	c.add(later)
	wantPass(t, "seen", r, Removed{})
	c.add(time.Hour)
	meet = true
	wantPass(t, "met", r, Removed{})
	if meet {
		t.Fatal("they did not meet")
	}
	if err := mustOpen(t, b, m).Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestTwoLeadersHarmNothing runs two retentions against each other, and against
// uploads.
func TestTwoLeadersHarmNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		c := newClock()
		hubs := []*Bucket{p.hub(t, "a", c.option), p.hub(t, "b", c.option)}
		threeDays(t, hubs[0], c)
		c.add(later)
		var leaders []*Retention
		for _, b := range hubs {
			leaders = append(leaders, newRetention(t, b, RetentionOptions{MaxAge: 48 * time.Hour}, nil))
		}
		for round := range 3 {
			var wg sync.WaitGroup
			for _, r := range leaders {
				wg.Go(func() {
					if _, err := r.Pass(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Go(func() { upload(t, hubs[0], oneLog("a", uint64(100+round)), c.Now(), 0, 100) })
			wg.Wait()
			c.add(time.Hour)
		}
		listed, err := hubs[1].List(t.Context(), time.Time{}, time.Time{})
		if err != nil || len(listed) != 1+3 {
			t.Fatalf("%d segments, want 4: %v", len(listed), err)
		}
		for _, m := range listed {
			if err := mustOpen(t, hubs[1], m).Verify(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if n := len(p.objects(t, "v1")); n != 3*4 {
			t.Errorf("%d objects of 4 segments", n)
		}
	})
}

// TestRetentionGoesOnAfterACrashAtAnyPoint stops a pass before each deletion.
func TestRetentionGoesOnAfterACrashAtAnyPoint(t *testing.T) {
	p := folderPlace(t)
	c := newClock()
	threeDays(t, p.hub(t, "hub-1", c.option), c)
	c.add(later)
	for crashes := 0; ; crashes++ {
		ctx, cancel := context.WithCancel(t.Context())
		deletions := 0
		p.alter = func(f *fault) {
			f.before = func(op, _ string) error {
				if op == "delete" {
					if deletions++; deletions == 2 {
						cancel()
						return errCrash
					}
				}
				return nil
			}
		}
		r := newRetention(t, p.hub(t, "hub-1", c.option), RetentionOptions{MaxAge: time.Hour}, nil)
		_, err := r.Pass(ctx)
		c.add(time.Hour)
		if err == nil {
			_, err = r.Pass(ctx)
		}
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) || crashes > 20 {
			t.Fatal(crashes, err)
		}
	}
	if left := p.objects(t, "v1"); len(left) > 0 {
		t.Error("left:", left)
	}
}

func TestRetentionWorksWhereTheLeaseIs(t *testing.T) {
	p := folderPlace(t)
	c := newClock()
	one := p.hub(t, "hub-1", c.option)
	m := upload(t, one, oneLog("hub-1", 1), c.Now().Add(-time.Hour), 0, 10)
	o := RetentionOptions{MaxAge: time.Minute, Lease: 30 * time.Millisecond}
	leader, other := newRetention(t, one, o, nil), newRetention(t, p.hub(t, "hub-2", c.option), o, nil)
	if ours, err := other.lease.Renew(t.Context()); !ours || err != nil {
		t.Fatal(ours, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- leader.Run(ctx) }()
	for one.Stats().Lists < 10 { // it looks at the lease
		time.Sleep(time.Millisecond)
	}
	if leader.Leader() || len(p.objects(t, m.name().meta())) != 1 {
		t.Error("it works without the lease")
	}
	if err := other.lease.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	for len(p.objects(t, metaRoot)) > 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	wantLease(t, "given up", other.lease, true)
}
