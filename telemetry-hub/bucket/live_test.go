package bucket

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// numbers of the logs that are open.
func numbers(l *Live) (list []uint64) {
	for _, s := range l.Segments() {
		list = append(list, s.Log.First)
	}
	return list
}

func mustPoll(t *testing.T, l *Live, want ...uint64) {
	t.Helper()
	if err := l.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := numbers(l); !slices.Equal(got, want) {
		t.Errorf("open %v, want %v", got, want)
	}
}

func TestLiveFollowsWhatHubsAddAndRetentionRemoves(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		one, two := p.hub(t, "hub-1"), p.hub(t, "hub-2")
		l := NewLive(p.hub(t, "hub-3"), 0)
		mustPoll(t, l)
		a := upload(t, one, oneLog("hub-1", 1), testStart, 0, 1000)
		upload(t, two, oneLog("hub-2", 2), testStart.Add(time.Minute), 500, 1000)
		mustPoll(t, l, 1, 2)
		upload(t, two, oneLog("hub-2", 3), testStart.Add(24*time.Hour), 1000, 1000)
		mustPoll(t, l, 1, 2, 3)
		if got := l.Between(testStart.Add(time.Minute), testStart.Add(time.Hour)); len(got) != 1 || got[0].Log.First != 2 {
			t.Errorf("%d segments of that hour", len(got))
		}
		held := l.Segments()[0]
		mustFind(t, held.Segment, 1)
		before := l.b.Stats()
		mustPoll(t, l, 1, 2, 3)
		if s := l.b.Stats(); s.Gets != before.Gets {
			t.Errorf("%d reads where nothing is new", s.Gets-before.Gets)
		}
		// Retention's first step; the objects still stand.
		if err := one.remove(t.Context(), a.name().meta()); err != nil {
			t.Fatal(err)
		}
		mustPoll(t, l, 2, 3)
		mustFind(t, held.Segment, 2)
	})
}

func TestLiveListsOnlyDaysThatChange(t *testing.T) {
	p := folderPlace(t)
	c := newClock()
	b := p.hub(t, "hub-1", c.option)
	today := c.Now().UTC().Truncate(24 * time.Hour).Add(time.Hour)
	c.add(today.Add(time.Hour).Sub(c.Now()))
	for i := range 10 { // today and nine days before
		upload(t, b, oneLog("hub-1", uint64(i)), today.Add(-time.Duration(i)*24*time.Hour), 0, 10)
	}
	var lists []string
	p.alter = func(f *fault) {
		f.before = func(op, name string) error {
			if op == "list" && strings.Contains(name, dayPrefix) {
				lists = append(lists, name[strings.LastIndexByte(name, '=')+1:])
			}
			return nil
		}
	}
	l := NewLive(p.hub(t, "hub-2", c.option), 0)
	all := []uint64{9, 8, 7, 6, 5, 4, 3, 2, 1, 0}
	mustPoll(t, l, all...)
	if len(lists) != 10 {
		t.Errorf("first %d days, want 10", len(lists))
	}
	visited := map[string]bool{}
	for range 10 {
		lists = nil
		mustPoll(t, l, all...)
		if len(lists) > 4 {
			t.Errorf("listed %v", lists)
		}
		for i, back := range []int{0, 1} {
			if want := today.AddDate(0, 0, -back).Format(time.DateOnly); lists[i] != want {
				t.Errorf("listed %v, want %s", lists, want)
			}
		}
		if oldest := today.AddDate(0, 0, -9).Format(time.DateOnly); !slices.Contains(lists, oldest) {
			t.Errorf("listed %v without the oldest", lists)
		}
		for _, day := range lists {
			visited[day] = true
		}
	}
	if len(visited) != 10 {
		t.Errorf("ten polls visited %d of 10 days", len(visited))
	}
}

func TestLiveTriesAgainWhatFailed(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		b := p.hub(t, "hub-1")
		good := upload(t, b, oneLog("hub-1", 1), testStart, 0, 100)
		bad := upload(t, b, oneLog("hub-1", 2), testStart.Add(time.Hour), 0, 100)
		p.damage(t, bad.Index.Name, 50)
		l := NewLive(b, 0)
		err := l.Poll(t.Context())
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), bad.Index.Name) || !slices.Equal(numbers(l), []uint64{1}) {
			t.Errorf("open %v: %v", numbers(l), err)
		}
		p.damage(t, bad.Index.Name, 50)
		mustPoll(t, l, 1, 2)
		// A listing that fails changes nothing.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.Poll(ctx); err == nil || len(l.Segments()) != 2 {
			t.Error(err, numbers(l))
		}
		mustFind(t, mustOpen(t, b, good), 1)
	})
}

func TestLiveRunsUntilItsContextEnds(t *testing.T) {
	p := folderPlace(t)
	b := p.hub(t, "hub-1")
	l := NewLive(b, time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx) }()
	upload(t, b, oneLog("hub-1", 1), testStart, 0, 100)
	for len(l.Segments()) == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestNamesOfSegments(t *testing.T) {
	for _, n := range []segmentName{{0, oneLog("h", 0)}, {1 << 62, Log{"hub-1.example.org_2", 3, 1<<64 - 1}}, {1790000000000000000, oneLog("00000000000000000001", 3)}} {
		if got, ok := parseMeta(n.meta()); !ok || got != n {
			t.Errorf("%s: %+v", n.meta(), got)
		}
		for _, part := range []string{n.records("0123456789abcdef"), n.index("0123456789abcdef")} {
			if got, ok := parsePart(part); !ok || got != n {
				t.Errorf("%s: %+v", part, got)
			}
		}
	}
	good := segmentName{5, oneLog("h", 6)}.meta()
	for _, bad := range []string{
		"", "v1/meta/day=1970-01-01", "v1/meta/day=1970-01-01/x.json", strings.Replace(good, "1970-01-01", "1970-01-02", 1),
		strings.Replace(good, ".json", ".new", 1), strings.Replace(good, "-h-", "-h/../h-", 1), strings.Replace(good, "-h-", "--", 1),
		strings.Replace(good, "/0000", "/-000", 1), strings.Replace(good, "6.json", "5.json", 1), "v1/meta/day=1970-01-01.json",
	} {
		if n, ok := parseMeta(bad); ok {
			t.Errorf("%q is %+v", bad, n)
		}
	}
	for _, bad := range []string{"", "x.parquet", "v1/records/day=1970-01-01/" + fmt.Sprint(segmentName{5, oneLog("h", 6)}) + ".parquet"} {
		if n, ok := parsePart(bad); ok {
			t.Errorf("%q is %+v", bad, n)
		}
	}
}
