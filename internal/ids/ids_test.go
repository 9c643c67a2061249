package ids

import (
	"encoding/binary"
	"strconv"
	"strings"
	"testing"
)

func TestTraceIDIsItsRequestID(t *testing.T) {
	id := NewTraceID()
	uuid := id.UUID()
	if strings.ReplaceAll(uuid, "-", "") != id.String() {
		t.Errorf("UUID %s is not trace ID %s with dashes", uuid, id)
	}
	if uuid[14] != '4' || !strings.ContainsRune("89ab", rune(uuid[19])) {
		t.Errorf("%s is not a UUIDv4", uuid)
	}
	for _, form := range []string{uuid, id.String(), strings.ToUpper(uuid)} {
		if got, ok := ParseTraceID(form); !ok || got != id {
			t.Errorf("ParseTraceID(%q) = %v, %v", form, got, ok)
		}
	}
}

func TestParseTraceparent(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	p, ok := ParseTraceparent(good)
	if !ok || !p.Sampled || p.String() != good {
		t.Errorf("ParseTraceparent(%q) = %v, %v", good, p, ok)
	}
	if _, ok := ParseTraceparent("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra"); !ok {
		t.Error("a later version with more fields is refused")
	}
	for _, bad := range []string{
		"",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
		"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
		"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
		"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01extra",
		"00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
	} {
		if p, ok := ParseTraceparent(bad); ok {
			t.Errorf("ParseTraceparent(%q) = %v, want refusal", bad, p)
		}
	}
}

func TestParseTraceIDRefuses(t *testing.T) {
	for _, bad := range []string{
		"", "0af7651916cd43dd8448eb211c80319", "0af7651916cd43dd8448eb211c80319g", "00000000000000000000000000000000",
		"-0a-f765-19-6cd-43dd-8448-eb211c8031", "--------9ab0-4c0a-9f0e-0123456789ab", "3d1f6c80-6a0e-4c0a-9f0e-0123456789-b",
		"3d1f6c80-6a0e-4c0a-9f0e-0123456789\x11b",
	} {
		if id, ok := ParseTraceID(bad); ok {
			t.Errorf("ParseTraceID(%q) = %v, want refusal", bad, id)
		}
	}
}

func TestAppendingDoesNotAllocate(t *testing.T) {
	p := Traceparent{TraceID: NewTraceID(), SpanID: NewSpanID(), Sampled: true}
	uuid := p.TraceID.UUID()
	buf := make([]byte, 0, 128)
	if n := testing.AllocsPerRun(1000, func() {
		buf = p.Append(p.TraceID.AppendUUID(buf[:0]))
		if _, ok := ParseTraceID(uuid); !ok {
			t.Fatal("not read")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func FuzzParseTraceID(f *testing.F) {
	f.Add("3d1f6c80-6a0e-4c0a-9f0e-0123456789ab")
	f.Add("0af7651916cd43dd8448eb211c80319c")
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := ParseTraceID(s)
		if !ok {
			return
		}
		if got := strings.ToLower(s); got != id.String() && got != id.UUID() {
			t.Errorf("%q reads as %s", s, id)
		}
	})
}

func FuzzParseTraceparent(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := ParseTraceparent(s)
		if !ok {
			return
		}
		if again, ok := ParseTraceparent(p.String()); !ok || again != p {
			t.Errorf("%q reads as %v, written and read again as %v, %v", s, p, again, ok)
		}
	})
}

// TestHexOfEveryByte: eight digits at a time are the same digits as one by one.
func TestHexOfEveryByte(t *testing.T) {
	for c := range 256 {
		for at := range 8 {
			b := []byte("0189afed")
			b[at] = byte(c)
			want, err := strconv.ParseUint(string(b), 16, 32)
			ok := err == nil && (c < 'A' || c > 'F')
			v, faults := hexOf(binary.BigEndian.Uint64(b))
			if got := faults&(eachByte*0x80) == 0; got != ok || ok && uint64(v) != want {
				t.Errorf("hexOf(%q) = %x, %t; want %x, %t", b, v, got, want, ok)
			}
			s := string(b) + "000000000000000000000001"
			if id, got := ParseTraceID(s); got != (err == nil) || got && id.String() != strings.ToLower(s) {
				t.Errorf("ParseTraceID(%q) = %s, %t; want %t", s, id, got, err == nil)
			}
		}
	}
}
