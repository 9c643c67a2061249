package ids

import (
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
