package bucket

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

func TestAnUploadedSegmentIsWhatWasSealed(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		b := p.hub(t, "hub-1")
		path := filepath.Join(t.TempDir(), "1.parquet")
		sum := seal(t, path, 3, testStart, 0, 20_000)
		m, err := b.Upload(t.Context(), path, oneLog("hub-1", 4))
		if err != nil {
			t.Fatal(err)
		}
		if m.Rows != sum.Rows || m.MinStart != sum.MinStart || m.MaxStart != sum.MaxStart || m.End != sum.MaxStart ||
			m.Records.Bytes != sum.DataBytes || m.Index.Bytes != sum.IndexBytes || m.Writer != "hub-1" || m.Schema == 0 {
			t.Errorf("meta %+v of %+v", m, sum)
		}
		listed, err := b.List(t.Context(), time.Time{}, time.Time{})
		if err != nil || len(listed) != 1 || listed[0] != m {
			t.Fatalf("listed %+v, want %+v: %v", listed, m, err)
		}
		for file, o := range map[string]Object{path: m.Records, segment.IndexPath(path): m.Index} {
			want, err := os.ReadFile(file)
			have, err2 := os.ReadFile(filepath.Join(p.files, o.Name))
			if string(want) != string(have) || errors.Join(err, err2) != nil {
				t.Errorf("%s is not %s: %v %v", o.Name, file, err, err2)
			}
		}
		if parquet, err := filepath.Glob(filepath.Join(p.files, "v1/records/*/*.parquet")); len(parquet) != 1 || err != nil {
			t.Errorf("an engine's glob finds %v", parquet)
		}
		if err := mustOpen(t, b, m).Verify(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

var errCrash = errors.New("crash")

// TestAnUploadIsRepeatedAfterACrashAtAnyPoint stops an upload before and after
// each of its writes, for good, as a crash does, and has another run of the hub
// repeat it.
func TestAnUploadIsRepeatedAfterACrashAtAnyPoint(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		path := sealed(t, testStart, 0, 3000)
		for step := range 6 {
			log := oneLog("hub-1", uint64(step+1))
			ctx, cancel := context.WithCancel(t.Context())
			writes := 0
			crash := func(at int) func(op, name string) error {
				return func(op, _ string) error {
					if op != "put" {
						return nil
					}
					if writes++; writes == at {
						cancel()
						return errCrash
					}
					return nil
				}
			}
			p.alter = func(f *fault) {
				if step%2 == 0 {
					f.before = crash(step/2 + 1)
				} else {
					f.after = crash(step/2 + 1)
				}
			}
			if _, err := p.hub(t, "hub-1").Upload(ctx, path, log); !errors.Is(err, context.Canceled) {
				t.Fatalf("step %d: %v", step, err)
			}
			p.alter = nil
			b := p.hub(t, "hub-1")
			whole := step
			if step == 5 { // after the meta it is whole
				whole++
			}
			if listed, err := b.List(t.Context(), time.Time{}, time.Time{}); err != nil || len(listed) != whole {
				t.Errorf("step %d: %d segments before it is repeated, want %d: %v", step, len(listed), whole, err)
			}
			m, err := b.Upload(t.Context(), path, log)
			if err != nil {
				t.Fatalf("step %d: repeated: %v", step, err)
			}
			if again, err := b.Upload(t.Context(), path, log); err != nil || again != m {
				t.Errorf("step %d: a third time gives %+v, want %+v: %v", step, again, m, err)
			}
			if err := mustOpen(t, b, m).Verify(t.Context()); err != nil {
				t.Errorf("step %d: %v", step, err)
			}
			if names := p.objects(t, "v1"); len(names) != 3*(step+1) {
				t.Errorf("step %d: %d objects, want 3 for each segment: %v", step, len(names), names)
			}
		}
	})
}

// TestOneLogMakesOneSegmentWhoeverSealsIt has two hubs upload different files of
// the same log, the second between the first's index and meta.
func TestOneLogMakesOneSegmentWhoeverSealsIt(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		log := oneLog("lost", 9)
		paths := []string{filepath.Join(t.TempDir(), "1.parquet"), filepath.Join(t.TempDir(), "1.parquet")}
		for i, path := range paths {
			seal(t, path, uint64(i+1), testStart, 0, 2000)
		}
		fast := p.hub(t, "fast")
		var won Meta
		p.alter = func(f *fault) {
			f.before = func(op, name string) (err error) {
				if op == "put" && strings.HasSuffix(name, ".json") {
					won, err = fast.Upload(t.Context(), paths[0], log)
				}
				return err
			}
		}
		slow := p.hub(t, "slow")
		m, err := slow.Upload(t.Context(), paths[1], log)
		if err != nil || m != won || m.Writer != "fast" {
			t.Fatalf("the second got %+v, the first %+v: %v", m, won, err)
		}
		want := []string{m.name().meta(), m.Records.Name, m.Index.Name}
		slices.Sort(want)
		have := p.objects(t, "v1")
		if slices.Sort(have); !slices.Equal(have, want) {
			t.Errorf("objects %v, want %v", have, want)
		}
		if err := mustOpen(t, slow, m).Verify(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAMetaWithoutItsPartsIsReplaced(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		b := p.hub(t, "hub-1")
		path := sealed(t, testStart, 0, 1000)
		upload := func() Meta {
			m, err := b.Upload(t.Context(), path, oneLog("hub-1", 1))
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		m := upload()
		p.delete(t, m.Records.Name)
		upload()
		if err := os.WriteFile(filepath.Join(p.files, m.Index.Name), []byte("short"), 0o644); err != nil {
			t.Fatal(err)
		}
		upload()
		if err := os.WriteFile(filepath.Join(p.files, m.name().meta()), []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := mustOpen(t, b, upload()).Verify(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestAnUploadNoticesWhatASweepTook deletes the records of an upload before its
// meta is there.
func TestAnUploadNoticesWhatASweepTook(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		swept := false
		p.alter = func(f *fault) {
			f.before = func(op, name string) error {
				if op == "put" && strings.HasSuffix(name, ".json") && !swept {
					swept = true
					for _, records := range p.objects(t, recordsRoot) {
						p.delete(t, records)
					}
				}
				return nil
			}
		}
		b := p.hub(t, "hub-1")
		path := sealed(t, testStart, 0, 100)
		if _, err := b.Upload(t.Context(), path, oneLog("hub-1", 1)); !errors.Is(err, ErrNotFound) {
			t.Errorf("uploaded without its records: %v", err)
		}
		m, err := b.Upload(t.Context(), path, oneLog("hub-1", 1))
		if err != nil {
			t.Fatal(err)
		}
		if err := mustOpen(t, b, m).Verify(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestUploadRefusesWhatIsNoSegment(t *testing.T) {
	p := folderPlace(t)
	b := p.hub(t, "hub-1")
	path := sealed(t, testStart, 0, 100)
	other := sealed(t, testStart, 0, 200)
	empty := filepath.Join(t.TempDir(), "1.parquet")
	seal(t, empty, 1, testStart, 0, 0)
	lonely := filepath.Join(t.TempDir(), "2.parquet")
	mixed := filepath.Join(t.TempDir(), "3.parquet")
	for from, to := range map[string]string{path: lonely, other: mixed, segment.IndexPath(path): segment.IndexPath(mixed)} {
		if err := os.Link(from, to); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ name, path, hub, want string }{
		{"no file", "nowhere.parquet", "h", "no such file"},
		{"no index", lonely, "h", "Reindex"},
		{"another's index", mixed, "h", "another's"},
		{"no records", empty, "h", "empty"},
		{"a bad name", path, "a/b", "want letters"},
	} {
		if _, err := b.Upload(t.Context(), c.path, oneLog(c.hub, 1)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if names := p.objects(t, ""); len(names) != 0 {
		t.Error("left behind:", names)
	}
}

func TestAClockAheadDoesNotTakeTheSegmentAlong(t *testing.T) {
	p := folderPlace(t)
	b := p.hub(t, "hub-1")
	m := upload(t, b, oneLog("hub-1", 1), time.Now().Add(40*24*time.Hour), 0, 10)
	if now := time.Now().UnixNano(); m.End > now || m.MaxStart < now {
		t.Errorf("End %d, MaxStart %d, now %d", m.End, m.MaxStart, now)
	}
	if old := upload(t, b, oneLog("hub-1", 2), time.Unix(-5, 0), 0, 10); old.End != 0 || old.MaxStart >= 0 {
		t.Errorf("End %d, MaxStart %d of records before 1970", old.End, old.MaxStart)
	}
	if listed, err := b.List(t.Context(), time.Time{}, time.Time{}); err != nil || len(listed) != 2 {
		t.Error(len(listed), err)
	}
}

func TestListTakesWhatOverlaps(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		b := p.hub(t, "hub-1")
		var lists []string
		p.alter = func(f *fault) {
			f.before = func(op, name string) error {
				if op == "list" {
					lists = append(lists, name[strings.LastIndexByte(name, '/')+1:])
				}
				return nil
			}
		}
		reader := p.hub(t, "hub-2")
		day := 24 * time.Hour
		for i, at := range []time.Duration{-9 * day, -2 * day, 12*time.Hour - time.Second, 0, 9 * day} { // the third crosses midnight
			upload(t, b, oneLog("hub-1", uint64(i)), testStart.Add(at-10*day), 0, 2000)
		}
		at := func(d time.Duration) time.Time { return testStart.Add(d - 10*day) }
		for _, c := range []struct {
			from, to time.Time
			want     []uint64
		}{
			{want: []uint64{0, 1, 3, 2, 4}},
			{from: at(0), to: at(time.Second), want: []uint64{3}},
			{from: at(2 * time.Second), to: at(12 * time.Hour), want: []uint64{2}},
			{from: at(12*time.Hour + time.Second/2), to: at(12*time.Hour + time.Second), want: []uint64{2}},
			{from: at(-time.Hour), to: at(0)},
			{to: at(-day), want: []uint64{0, 1}},
			{from: at(day), want: []uint64{4}},
		} {
			got, err := reader.List(t.Context(), c.from, c.to)
			var numbers []uint64
			for _, m := range got {
				numbers = append(numbers, m.Log.First)
			}
			if err != nil || !slices.Equal(numbers, c.want) {
				t.Errorf("%v to %v: %v, want %v: %v", c.from, c.to, numbers, c.want, err)
			}
		}
		lists = nil
		if _, err := reader.List(t.Context(), at(0), at(time.Second)); err != nil {
			t.Fatal(err)
		}
		if want := []string{"meta", dayOf(at(0)), dayOf(at(day))}; !slices.Equal(lists, want) {
			t.Errorf("listed %v, want %v", lists, want)
		}
	})
}
