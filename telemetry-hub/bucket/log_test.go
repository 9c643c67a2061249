package bucket

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

func putChunks(t *testing.T, b *Bucket, hub string, number uint64, chunks ...string) {
	t.Helper()
	offset := int64(0)
	for _, c := range chunks {
		if err := b.PutChunk(t.Context(), hub, number, offset, []byte(c)); err != nil {
			t.Fatal(err)
		}
		offset += int64(len(c))
	}
}

// readLog is what Chunks yields, errors by their first words.
func readLog(t *testing.T, b *Bucket, hub string) string {
	t.Helper()
	var s strings.Builder
	for c, err := range b.Chunks(t.Context(), hub) {
		switch {
		case errors.Is(err, ErrGap):
			s.WriteString("gap ")
		case errors.Is(err, ErrDamaged):
			s.WriteString("damaged ")
		case err != nil:
			t.Fatal(err)
		default:
			fmt.Fprintf(&s, "%d@%d=%s ", c.Number, c.Offset, c.Bytes)
		}
	}
	return strings.TrimSpace(s.String())
}

func TestALostHubsLogIsReadBackInOrder(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		a := p.hub(t, "a")
		putChunks(t, a, "a", 2, "third", "fourth")
		putChunks(t, a, "a", 1, "one", "two")
		putChunks(t, a, "a", 1, "one", "two") // a repetition
		putChunks(t, a, "a", 10, "x")
		putChunks(t, a, "ab", 1, "another hub's")
		b := p.hub(t, "b")
		if got, want := readLog(t, b, "a"), "1@0=one 1@3=two 2@0=third 2@5=fourth 10@0=x"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		owners, err := b.ChunkOwners(t.Context())
		if err != nil || len(owners) != 2 || owners[0].Hub != "a" || owners[0].Chunks != 5 || owners[0].Bytes != 18 ||
			owners[0].First != 1 || owners[0].Last != 10 || owners[1].Hub != "ab" {
			t.Fatalf("%+v: %v", owners, err)
		}
		if o := owners[0]; o.Newest.Before(o.Oldest) || time.Since(o.Oldest) > time.Hour || time.Since(o.Newest) < -time.Hour {
			t.Errorf("from %v to %v", o.Oldest, o.Newest)
		}
		for range 2 { // repeated
			if err := b.DropChunks(t.Context(), "a", 2); err != nil {
				t.Fatal(err)
			}
		}
		if got := readLog(t, b, "a"); got != "10@0=x" {
			t.Errorf("after the drop %s", got)
		}
		if got := readLog(t, b, "ab"); got != "1@0=another hub's" {
			t.Errorf("another hub's log is %s", got)
		}
		if got := readLog(t, b, "nobody"); got != "" {
			t.Error(got)
		}
	})
}

func TestWhatIsMissingInALogIsTold(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		b := p.hub(t, "a")
		putChunks(t, b, "a", 1, "one", "two", "three")
		putChunks(t, b, "a", 2, "four")
		for _, name := range p.objects(t, "v1/log/a") {
			switch {
			case strings.Contains(name, "-3-") && strings.Contains(name, "/0000000000000003-"):
				p.delete(t, name)
			case strings.Contains(name, "-4-"):
				p.damage(t, name, 2)
			}
		}
		if got, want := readLog(t, b, "a"), "1@0=one gap 1@6=three damaged"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		for _, bad := range []error{
			b.PutChunk(t.Context(), "", 1, 0, []byte("x")), b.PutChunk(t.Context(), "a/b", 1, 0, []byte("x")),
			b.PutChunk(t.Context(), "a", 1, -1, []byte("x")), b.PutChunk(t.Context(), "a", 1, 0, nil),
		} {
			if bad == nil {
				t.Error("accepted")
			}
		}
	})
}

// TestALostHubIsTakenOver goes the whole way: a hub dies with its disk, of
// several others one gets its log, makes a segment of it and drops it; the dead
// one comes back and does the same work again.
func TestALostHubIsTakenOver(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		c := newClock()
		lost := p.hub(t, "lost", c.option)
		lease := func(b *Bucket) *Lease {
			l, err := b.ChunkLease("lost", "disk of "+b.o.Hub, testTerm)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		own := lease(lost)
		wantLease(t, "alive", own, true)
		putChunks(t, lost, "lost", 7, "batches")

		var taker *Bucket
		hubs := map[*Bucket]*Lease{}
		for _, name := range []string{"a", "b"} {
			b := p.hub(t, name, c.option)
			hubs[b] = lease(b)
			wantLease(t, "while it lives", hubs[b], false)
		}
		c.add(testTerm)
		for b, l := range hubs {
			if ours, err := l.Renew(t.Context()); err != nil {
				t.Error(err)
			} else if ours && taker != nil {
				t.Error("two took it over")
			} else if ours {
				taker = b
			}
		}
		if taker == nil {
			t.Fatal("nobody took it over")
		}
		if got := readLog(t, taker, "lost"); got != "7@0=batches" {
			t.Fatal(got)
		}
		first := upload(t, taker, oneLog("lost", 7), testStart, 0, 100)
		if err := taker.DropChunks(t.Context(), "lost", 7); err != nil {
			t.Fatal(err)
		}
		wantLease(t, "back", own, false)
		if again := upload(t, lost, oneLog("lost", 7), testStart, 0, 100); again != first {
			t.Errorf("a second segment: %+v", again)
		}
		if owners, err := taker.ChunkOwners(t.Context()); len(owners) != 0 || err != nil {
			t.Error(owners, err)
		}
	})
}

func FuzzNames(f *testing.F) {
	n := chunkName{hub: "h", number: 1, offset: 2, length: 3, crc: 4}
	f.Add(n.object())
	f.Add(segmentName{5, oneLog("h", 6)}.meta())
	f.Add(segmentName{5, oneLog("h", 6)}.records("0123456789abcdef"))
	f.Fuzz(func(t *testing.T, object string) {
		if n, ok := parseChunk(object); ok && n.object() != object {
			t.Errorf("chunk %q", object)
		}
		if n, ok := parseMeta(object); ok && n.meta() != object {
			t.Errorf("meta %q", object)
		}
		if n, ok := parsePart(object); ok && !bytes.Contains([]byte(object), []byte(n.String())) {
			t.Errorf("part %q", object)
		}
		if s, ok := parseSpan(object); ok && s.file() != object {
			t.Errorf("span %q", object)
		}
	})
}

func TestChunkEndsAreThoseWithoutAGap(t *testing.T) {
	b := folderPlace(t).hub(t, "a")
	for _, c := range []Chunk{{1, 0, make([]byte, 10)}, {1, 10, make([]byte, 5)}, {2, 0, make([]byte, 7)}, {2, 8, make([]byte, 1)}, {3, 4, make([]byte, 4)}} {
		if err := b.PutChunk(t.Context(), "a", c.Number, c.Offset, c.Bytes); err != nil {
			t.Fatal(err)
		}
	}
	ends, err := b.ChunkEnds(t.Context(), "a")
	if want := map[uint64]int64{1: 15, 2: 7, 3: 0}; err != nil || !maps.Equal(ends, want) {
		t.Errorf("%v, want %v: %v", ends, want, err)
	}
}
