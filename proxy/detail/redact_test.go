package detail

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// secret is no part of any name, so that finding it in what is sent is a leak.
const secret = "s3cr3tVALUE"

// TestNoByteOfASecretIsSent gives the redactor heads as they come and as nobody
// sends them. The secret must not be in any of what goes out.
func TestNoByteOfASecretIsSent(t *testing.T) {
	s := newSecrets([]string{"X-Session-Token", " x-padded "})
	names := []string{
		"Authorization", "authorization", "AUTHORIZATION", "Proxy-Authorization", "Cookie", "cOOkie", "Set-Cookie", "X-API-Key", "x-api-key",
		"X-Session-Token", "x-session-token", "X-Padded",
	}
	forms := map[string]func(name string) string{
		"plain":              func(n string) string { return n + ": " + secret + "\r\n" },
		"without a blank":    func(n string) string { return n + ":" + secret + "\r\n" },
		"blanks around":      func(n string) string { return n + ": \t " + secret + " \t\r\n" },
		"blank before colon": func(n string) string { return n + " : " + secret + "\r\n" },
		"twice":              func(n string) string { return n + ": " + secret + "\r\n" + n + ": b" + secret + "\r\n" },
		"between others":     func(n string) string { return "a: b\r\n" + n + ": " + secret + "\r\nc: d\r\n" },
		"folded":             func(n string) string { return n + ": a,\r\n " + secret + "\r\n\t" + secret + "\r\nc: d\r\n" },
		"folded at once":     func(n string) string { return n + ":\r\n " + secret + "\r\n" },
		"bare line feeds":    func(n string) string { return "a: b\n" + n + ": " + secret + "\nc: d\n" },
		"bare returns":       func(n string) string { return "a: b\r" + n + ": " + secret + "\rc: d\r" },
		"no end":             func(n string) string { return n + ": " + secret },
		"no colon":           func(n string) string { return n + " " + secret + "\r\n" },
		"a line of its own":  func(n string) string { return n + ": x\r\n" + secret + "\r\n" },
		"no name":            func(string) string { return ": " + secret + "\r\n" },
		"not a token":        func(n string) string { return n + " x: " + secret + "\r\n" },
		"NUL in the name":    func(n string) string { return n + "\x00: " + secret + "\r\n" },
		"not UTF-8":          func(n string) string { return n + ": \xff" + secret + "\xfe\r\n" },
	}
	for form, head := range forms {
		for _, name := range names {
			b := "GET /path?a=b HTTP/1.1\r\n" + head(name) + "\r\n"
			checkSilent(t, form+" "+name, s.encoded([]byte(b), exchange.HeadLines))
			// Cut anywhere, as a head that is too long is.
			for n := range len(b) {
				checkSilent(t, form+" "+name+" cut", s.encoded([]byte(b[:n]), exchange.HeadLines))
			}
		}
	}
	for _, name := range names {
		for _, value := range []string{secret, "a\r\nb: " + secret, "\x00" + secret} {
			b, _ := exchange.AppendHeadField(nil, "a", "b", 100)
			b, _ = exchange.AppendHeadField(b, name, value, 100)
			checkSilent(t, "list "+name, s.encoded(b, exchange.HeadList))
			for n := range len(b) {
				checkSilent(t, "list "+name+" cut", s.encoded(b[:n], exchange.HeadList))
			}
		}
	}
	for _, line := range []string{
		"GET http://user:" + secret + "@host/p HTTP/1.1", "GET https://" + secret + "@host HTTP/1.1", "GET http://a@b:" + secret + "@host?x HTTP/1.1",
	} {
		checkSilent(t, line, s.encoded([]byte(line+"\r\n\r\n"), exchange.HeadLines))
	}
	b, _ := exchange.AppendHeadField(nil, ":authority", "user:"+secret+"@host", 100)
	checkSilent(t, ":authority", s.encoded(b, exchange.HeadList))
}

func (s secrets) encoded(b []byte, form exchange.HeadForm) []byte {
	out, err := proto.Marshal(s.head(b, form, false))
	if err != nil {
		return []byte(secret) // it cannot be sent at all
	}
	return out
}

func checkSilent(t *testing.T, what string, sent []byte) {
	t.Helper()
	if strings.Contains(string(sent), secret[:6]) {
		t.Errorf("%s: %q", what, sent)
	}
}

func TestOtherFieldsStayAsTheyCame(t *testing.T) {
	s := newSecrets(nil)
	h := s.head([]byte("GET http://host/a@b?c=d HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nAuthorization2: x\r\nA: b\r\n  c\r\nCookie: abc\r\n\r\n"), exchange.HeadLines, true)
	want := []string{"Host=a", "X-Empty=", "Authorization2=x", "A=b c", "Cookie=[redacted, 3 bytes]"}
	if h.GetLine() != "GET http://host/a@b?c=d HTTP/1.1" || !h.GetTruncated() || len(h.GetFields()) != len(want) {
		t.Fatalf("head %v", h)
	}
	for i, f := range h.GetFields() {
		if got := f.GetName() + "=" + f.GetValue(); got != want[i] || f.GetRedacted() != (f.GetName() == "Cookie") {
			t.Errorf("field %d: %q, redacted %v", i, got, f.GetRedacted())
		}
	}
}

// FuzzHead has the redactor read anything, with a secret field at an arbitrary
// place between two lines.
func FuzzHead(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n"), []byte("b: c\r\n\r\n"), byte(1))
	f.Add([]byte("\r\n \n:"), []byte("\x00\x01"), byte(2))
	s := newSecrets(nil)
	f.Fuzz(func(t *testing.T, before, after []byte, form byte) {
		s.encoded(before, exchange.HeadForm(form%4)) // anything
		if strings.Contains(string(before)+string(after), secret[:6]) {
			return
		}
		raw := append(append([]byte("x\r\n"), before...), "\r\ncookie: "+secret+"\r\n"...)
		checkSilent(t, "lines", s.encoded(append(raw, after...), exchange.HeadLines))
	})
}
