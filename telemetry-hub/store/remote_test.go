package store

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/telemesh/telemesh/telemetry-hub/bucket"
)

const testLease = time.Minute

// shared is a bucket that hubs share, and their clock.
type shared struct {
	t      *testing.T
	config string
	folder string
	hubs   []*bench
	next   byte // trace
}

func newShared(t *testing.T) *shared {
	folder := t.TempDir()
	return &shared{t: t, folder: folder, config: fmt.Sprintf("type: FILESYSTEM\nconfig: {directory: %q}\n", folder)}
}

// hub starts another hub.
func (s *shared) hub(o Options, change ...func(*RemoteOptions)) *bench {
	b := &bench{}
	remote := func() *Remote {
		ro := RemoteOptions{
			Config: []byte(s.config), Dir: b.dir, Hub: "hub", CacheDir: b.dir + "-cache", Lease: testLease, Durable: true,
			Logger: slog.New(slog.NewTextHandler(b.log, nil)), Now: func() time.Time { return b.now },
		}
		for _, c := range change {
			c(&ro)
		}
		r, err := OpenRemote(s.t.Context(), ro)
		if err != nil {
			s.t.Fatal(err)
		}
		return r
	}
	o.FileBytes, o.LogHorizon = 200, time.Minute
	fresh(s.t, b, o, remote)
	if n := len(s.hubs); n > 0 {
		b.now = s.hubs[0].now
	}
	s.hubs = append(s.hubs, b)
	s.renew()
	return b
}

// pass lets time go by, in which hubs that live renew their leases.
func (s *shared) pass(d time.Duration) {
	for ; d > 0; d -= testLease / 4 {
		for _, b := range s.hubs {
			b.now = b.now.Add(testLease / 4)
		}
		s.renew()
	}
}

func (s *shared) renew() {
	for _, b := range s.hubs {
		r := b.store.remote
		if _, err := r.lease.Renew(s.t.Context()); err != nil {
			s.t.Error(err)
		}
	}
}

// kill takes a hub off, without its disk if lost.
func (s *shared) kill(b *bench, lost bool) {
	s.hubs = slices.DeleteFunc(s.hubs, func(o *bench) bool { return o == b })
	b.store.remote.stop()
	if lost {
		if err := os.RemoveAll(b.dir); err != nil {
			s.t.Fatal(err)
		}
	}
}

// push gives a hub a batch, and waits until it is durable.
func (s *shared) push(b *bench, records int) {
	s.t.Helper()
	for range records {
		s.next++
		b.append(hop(s.next, fmt.Sprint("/", s.next)))
	}
	if err := b.store.Sync(); err != nil {
		s.t.Fatal(err)
	}
}

// work does what Run does.
func (s *shared) work() {
	s.t.Helper()
	for _, b := range s.hubs {
		b.seal()
		r := b.store.remote
		if err := b.store.learn(s.t.Context()); err != nil {
			s.t.Error(err)
		}
		b.store.freezeDue(s.t.Context())
		r.uploadAll(s.t.Context(), b.store)
	}
	for _, b := range s.hubs {
		if err := b.store.remote.live.Poll(s.t.Context()); err != nil {
			s.t.Error(err)
		}
		b.store.reconcile()
		b.store.tidy()
	}
}

// takeOver lets a hub look for lost ones, as often as it takes.
func (s *shared) takeOver(b *bench) {
	s.t.Helper()
	leases := map[string]*bucket.Lease{}
	for range 3 {
		if err := b.store.remote.lookForLost(s.t.Context(), b.store, leases); err != nil {
			s.t.Error(err)
		}
		s.pass(testLease)
	}
}

// away makes the bucket answer with errors, until back is called.
func (s *shared) away() (back func()) {
	s.t.Helper()
	must := func(errs ...error) {
		s.t.Helper()
		if err := errors.Join(errs...); err != nil {
			s.t.Fatal(err)
		}
	}
	elsewhere := s.folder + "-away"
	must(os.Rename(s.folder, elsewhere), os.WriteFile(s.folder, nil, 0o644))
	return func() { must(os.Remove(s.folder), os.Rename(elsewhere, s.folder)) }
}

// wantAll checks that a hub finds every request once.
func (s *shared) wantAll(when string, b *bench) {
	s.t.Helper()
	for i := byte(1); i <= s.next; i++ {
		if got := b.paths(trace(i).String()); len(got) != 1 {
			s.t.Errorf("%s: found %v of %d, want it once\n%s", when, got, i, b.log)
		}
	}
	if found, complete := b.search(1000); len(found) != int(s.next) || !complete {
		s.t.Errorf("%s: a search finds %d of %d, complete: %v", when, len(found), s.next, complete)
	}
}

func (s *shared) objects(pattern string) []string {
	names, err := filepath.Glob(filepath.Join(s.folder, "v1", pattern))
	if err != nil {
		s.t.Fatal(err)
	}
	return names
}

// wantNoOverlap checks that no two segments of the bucket have the same log, for
// the sake of other engines that read them.
func (s *shared) wantNoOverlap() {
	s.t.Helper()
	all := map[string]map[uint64]bool{}
	for _, m := range s.hubs[0].store.remote.metas() {
		of := all[m.Log.Hub]
		if of == nil {
			of = map[uint64]bool{}
			all[m.Log.Hub] = of
		}
		for n := m.Log.First; n <= m.Log.Last; n++ {
			if of[n] {
				s.t.Errorf("log %d of %s is in two segments", n, m.Log.Hub)
			}
			of[n] = true
		}
	}
}

func onDisk(o *RemoteOptions) { o.Durable = false }

func TestHubsFindEachOthersRecordsInTheBucket(t *testing.T) {
	s := newShared(t)
	a, b := s.hub(Options{}, onDisk), s.hub(Options{}, onDisk)
	for range 3 {
		s.push(a, 7)
		s.push(b, 5)
		s.pass(uploadAfter + time.Minute)
		s.work()
	}
	// The last log of each is written to, and found on its hub alone.
	s.push(a, 1)
	s.push(b, 1)
	a.reopen()
	s.pass(uploadAfter + time.Minute)
	s.work()
	for _, h := range []*bench{a, b} {
		other := byte(1) // the open log of the other
		if found, _ := h.search(1000); len(found) != int(s.next-other) {
			t.Errorf("%d of %d found", len(found), s.next)
		}
	}
	if n := len(s.objects("meta/*/*")); n < 2 || n > 8 {
		t.Errorf("%d segments of %d records in logs of one each, want them joined before their upload", n, s.next)
	}
	if chunks := s.objects("log/*/*/*"); len(chunks) > 0 {
		t.Errorf("log in the bucket without being asked for: %v", chunks)
	}
}

func TestWhatIsInTheBucketMayGoFromTheDisk(t *testing.T) {
	s := newShared(t)
	a := s.hub(Options{RetentionBytes: 1})
	s.push(a, 12)
	s.pass(time.Minute + time.Second)
	a.seal()
	if n := a.store.Stats().SealedRecords; n != 11 {
		t.Errorf("%d records in segments before the upload, want all 11", n)
	}
	s.pass(uploadAfter)
	s.work()
	s.push(a, 2) // for the logs to be rotated
	s.pass(uploadAfter)
	s.work()
	if n := a.store.Stats().Segments; n != 0 {
		t.Errorf("%d segments after the upload, want none", n)
	}
	s.wantAll("from the bucket", a)
	a.reopen()
	s.work()
	s.wantAll("after a restart", a)
}

func TestAHubThatStartsAgainGoesOnWhereItWas(t *testing.T) {
	s := newShared(t)
	a := s.hub(Options{})
	name := a.store.remote.hub.Name
	for range 4 {
		s.push(a, 3)
		s.pass(uploadAfter / 2)
		s.work()
		a.reopen()
		s.renew()
		s.wantAll("after a restart", a)
		if a.store.remote.hub.Name != name {
			t.Fatalf("it is %s now, was %s", a.store.remote.hub.Name, name)
		}
	}
	s.pass(2 * uploadAfter)
	s.work()
	s.push(a, 1)
	s.pass(2 * uploadAfter)
	s.work()
	s.work()
	s.wantAll("in the end", a)
	if chunks := s.objects("log/*/*/*"); len(chunks) > 2 {
		t.Errorf("log of what is uploaded remains: %v", chunks)
	}
}

func TestWhatIsUploadedIsMergedNoMore(t *testing.T) {
	s := newShared(t)
	a := s.hub(Options{}, onDisk)
	for range 2 * mergeCount {
		s.push(a, 2)
		s.pass(2 * uploadAfter)
		s.work()
		if s.next%3 == 0 {
			a.reopen()
		}
	}
	s.wantNoOverlap()
	s.wantAll("in the end", a)
}

func TestALostDiskLosesNothingThatWasAcknowledged(t *testing.T) {
	s := newShared(t)
	a, b := s.hub(Options{}), s.hub(Options{})
	s.push(a, 20)
	s.push(b, 3)
	s.pass(uploadAfter + time.Minute)
	s.work() // some are uploaded
	s.push(a, 20)
	a.seal() // some are sealed
	s.push(a, 3)
	s.kill(a, true)
	s.takeOver(b)
	s.pass(uploadAfter)
	s.work()
	s.wantAll("taken over", b)
	if st, _ := b.store.Remote(); st.TakenOver == 0 {
		t.Errorf("%+v", st)
	}
	if left := s.objects("log/" + a.store.remote.hub.Name + "/*/*"); len(left) > 0 {
		t.Errorf("its log remains: %v", left)
	}
}

func TestAHubThatWasTakenOverBeginsAnew(t *testing.T) {
	s := newShared(t)
	a, b := s.hub(Options{}), s.hub(Options{})
	s.push(a, 8)
	silent := a.store.remote
	s.kill(a, false) // it hangs
	s.takeOver(b)
	if err := a.store.ship(); err == nil {
		t.Error("a batch is acknowledged without the lease")
	}
	g, ctx := errgroup.WithContext(t.Context())
	g.Go(func() error { return silent.keepLease(ctx) })
	if err := g.Wait(); err == nil || !strings.Contains(err.Error(), "start the hub again") {
		t.Errorf("it goes on: %v", err)
	}
	a.reopen()
	s.hubs = append(s.hubs, a)
	if a.store.remote.hub.Name == silent.hub.Name || a.store.Stats().Records != 0 {
		t.Errorf("still %s with %d records", silent.hub.Name, a.store.Stats().Records)
	}
	s.renew()
	s.push(a, 4)
	s.work()
	s.wantAll("after the restart", a)
	if _, err := os.Stat(a.dir + "-taken-over"); err != nil {
		t.Error(err)
	}
}

func TestABucketThatDoesNotAnswerHoldsOnlyWhatNeedsIt(t *testing.T) {
	s := newShared(t)
	a := s.hub(Options{RetentionBytes: 1}, func(o *RemoteOptions) { o.CacheBytes = 1 << 20 })
	s.push(a, 3)
	s.pass(uploadAfter + time.Minute)
	s.work()
	s.push(a, 1)
	s.pass(time.Hour)
	s.work()
	s.work()
	back := s.away()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := a.store.Find(ctx, trace(1).String()); !errors.Is(err, ErrIncomplete) {
		t.Errorf("%v, want an answer that is marked incomplete", err)
	}
	a.append(hop(s.next+1, "/"))
	if err := a.store.Sync(); err == nil {
		t.Error("a batch is durable without the bucket")
	}
	back()
	s.next++
	s.push(a, 1)
	s.wantAll("it answers again", a)
}

func TestWhatTheBucketDoesNotHaveYetStaysOnDisk(t *testing.T) {
	s := newShared(t)
	a := s.hub(Options{})
	s.push(a, 2)
	back := s.away()
	for range 5 {
		s.next++
		a.append(hop(s.next, fmt.Sprint("/", s.next)))
	}
	if err := a.store.Sync(); err == nil {
		t.Fatal("batches are durable without the bucket")
	}
	a.now = a.now.Add(time.Hour)
	a.seal()
	if n := a.store.Stats().SealedRecords; n < 4 {
		t.Fatalf("%d records sealed, want those of all closed logs", n)
	}
	back()
	s.renew()
	if err := a.store.Sync(); err != nil { // for the same batches, which come again
		t.Fatal(err)
	}
	b := s.hub(Options{})
	s.kill(a, true)
	s.takeOver(b)
	s.pass(uploadAfter)
	s.work()
	s.wantAll("taken over", b)
}

func TestLogsGoFromTheDiskWhenTheBucketHasThem(t *testing.T) {
	s := newShared(t)
	a := s.hub(Options{})
	s.push(a, 5)
	s.pass(2 * time.Minute)
	a.seal()
	if logs := a.glob("*.log"); len(logs) != 1 {
		t.Errorf("logs %v remain, want the open one", logs)
	}
}

// TestHubsThatShareABucketAreAMultisetOfRecords does what may happen to hubs, in
// any order, and looks for what was acknowledged.
func TestHubsThatShareABucketAreAMultisetOfRecords(t *testing.T) {
	checks := flag.Lookup("rapid.checks").Value.String()
	if err := flag.Set("rapid.checks", "8"); err != nil { // each is a second of syncs
		t.Fatal(err)
	}
	defer func() { _ = flag.Set("rapid.checks", checks) }()
	rapid.Check(t, func(rt *rapid.T) {
		s := newShared(t)
		living := func() *bench { return s.hubs[rapid.IntRange(0, len(s.hubs)-1).Draw(rt, "hub")] }
		for range 2 {
			s.hub(Options{RetentionBytes: 4000})
		}
		rt.Repeat(map[string]func(*rapid.T){
			"push": func(rt *rapid.T) {
				if n := rapid.IntRange(1, 9).Draw(rt, "records"); int(s.next)+n < 80 {
					s.push(living(), n)
				}
			},
			"time":    func(rt *rapid.T) { s.pass(time.Duration(rapid.IntRange(1, 20).Draw(rt, "minutes")) * time.Minute) },
			"seal":    func(*rapid.T) { living().seal() },
			"work":    func(*rapid.T) { s.work() },
			"restart": func(*rapid.T) { living().reopen(); s.renew() },
			"crash": func(*rapid.T) {
				b := living()
				b.store.remote.stop()
				b.open()
				s.renew()
			},
			"lose": func(*rapid.T) {
				s.kill(living(), true)
				if len(s.hubs) == 0 {
					s.hub(Options{RetentionBytes: 4000})
				}
				s.takeOver(living())
			},
			"hang": func(*rapid.T) {
				b := living()
				s.kill(b, false)
				if len(s.hubs) == 0 {
					s.hub(Options{RetentionBytes: 4000})
				}
				s.takeOver(living())
				b.now = s.hubs[0].now
				b.reopen()
				s.hubs = append(s.hubs, b)
				s.renew()
			},
		})
		for _, b := range s.hubs { // what is open on one hub is found on that alone
			if err := b.store.rotateNow(); err != nil {
				rt.Fatal(err)
			}
		}
		s.pass(2 * uploadAfter)
		s.work()
		s.wantNoOverlap()
		for _, b := range s.hubs {
			s.wantAll("in the end", b)
			b.store.Close()
		}
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// rotateNow closes the log that is written to.
func (s *Store) rotateNow() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rotate()
}
