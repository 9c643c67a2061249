package store

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"
	"time"
)

// memory is a log file in memory.
type memory struct{ *bytes.Reader }

type memoryInfo struct {
	os.FileInfo
	size int64
}

func (m memory) Stat() (os.FileInfo, error) { return memoryInfo{size: m.Reader.Size()}, nil }

func (i memoryInfo) Size() int64        { return i.size }
func (i memoryInfo) ModTime() time.Time { return time.Time{} }

func FuzzScan(f *testing.F) {
	sound := appendFrame(appendFrame(nil, []byte("one")), []byte("two"))
	f.Add([]byte{}, []byte("payload"))
	f.Add(sound, []byte(""))
	f.Add(append([]byte("garbage"), sound...), []byte("x"))
	f.Add(sound[:len(sound)-1], []byte("behind a torn frame"))
	f.Add(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, frameMagic), 1<<25), []byte("length"))
	f.Fuzz(func(t *testing.T, junk, payload []byte) {
		if len(junk) > 1<<16 || len(payload) > 1<<16 {
			return
		}
		// Whatever stands before a sound frame, the frame is found, and frames
		// and damage cover the file without overlap.
		whole := appendFrame(bytes.Clone(junk), payload)
		covered, found := int64(0), false
		end, err := scan(memory{bytes.NewReader(whole)},
			func(offset int64, p []byte) error {
				if offset != covered {
					t.Fatalf("frame at %d, want it at %d", offset, covered)
				}
				covered += frameHeader + int64(len(p))
				found = found || offset == int64(len(junk)) && bytes.Equal(p, payload)
				return nil
			},
			func(d damage) {
				if d.from != covered || d.to <= d.from {
					t.Fatalf("damage from %d to %d, want it from %d", d.from, d.to, covered)
				}
				covered = d.to
			})
		if err != nil || covered != int64(len(whole)) || end > covered {
			t.Fatalf("scan ends at %d of %d, covers %d, error %v", end, len(whole), covered, err)
		}
		// A sound frame in the junk may end behind the junk and hide ours.
		if !found && !bytes.Contains(junk, binary.LittleEndian.AppendUint32(nil, frameMagic)) {
			t.Fatal("the sound frame behind the junk is not found")
		}
	})
}

func TestManyLengthsBeyondTheEndTakeNoLongTime(t *testing.T) {
	b := bytes.Repeat([]byte("telm\xff\xff\xff\x03"), 1<<18) // 2 MiB, each of 64 MiB
	damages := 0
	end, err := scan(memory{bytes.NewReader(b)}, func(int64, []byte) error { return nil }, func(damage) { damages++ })
	if end != 0 || err != nil || damages != 1 {
		t.Errorf("end %d, %d damages: %v; want one damage of all", end, damages, err)
	}
}
