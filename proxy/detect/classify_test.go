package detect

import "testing"

func TestClassify(t *testing.T) {
	check := func(input string, hint Hint, want guess) {
		t.Helper()
		// However the bytes are cut, the verdict comes with the same one.
		for n := 1; n <= len(input); n++ {
			got := classify([]byte(input[:n]), hint)
			if got != undecided && got != want {
				t.Errorf("%.40q after %d bytes: %v, want %v", input, n, got, want)
				return
			}
			if n == len(input) && got != want {
				t.Errorf("%.40q: %v, want %v", input, got, want)
			}
		}
	}
	for _, input := range []string{
		"GET /", "POST /a HTTP/1.1\r\n", "OPTIONS *", "HEAD http://", "GET HTTPS://", "CONNECT db:5432", "CONNECT [::1]:80", "PROPFIND /", "M-SEARCH /", "PRI /", "PUT /",
	} {
		check(input, Any, isHTTP1)
	}
	for _, input := range []string{
		"\x00", "get /", " GET /", "GET  /", "GET\r\n", "GET key\r\n", "GET http:/x", "GET httpx", "GET *", "SET k v\r\n", "EHLO mail\r\n", "SSH-2.0-Go\r\n", "*1\r\n$4\r\nPING\r\n",
		"\x03\x00\x00", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "PRI * HTTP/1.1", "CONNECT /x"[:8] + "(", "\r\nGET /", "\x16\x03\x05", "\x16\x02", "\x16\x03\x01\x00\x05\x02",
	} {
		check(input, Any, isTCP)
	}
	for _, input := range []string{"", "G", "GET", "GET ", "GET h", "GET https:/", "OPTIONS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r", "\x16", "\x16\x03\x01\x00\x05"} {
		check(input, Any, undecided)
	}
	check(preface, Any, isHTTP2)
	check(preface, HTTPOnly, isHTTP2)
	check("PRI", HTTPOnly, undecided)
	check("\x16\x03\x01\x02\x00\x01", HTTPOnly, isHTTP1)
	check("garbage\r\n", HTTPOnly, isHTTP1)
	check("PRI * HTTP/1.1", HTTPOnly, isHTTP1)
	check("\x16\x03\x01\x02\x00\x01", Any, isTLS)
}

func TestAServersFirstSettingsAreHTTP2(t *testing.T) {
	check := func(b string, wantYes, wantMore bool) {
		t.Helper()
		if yes, more := greetsAsHTTP2([]byte(b)); yes != wantYes || more != wantMore {
			t.Errorf("%q: %v, %v", b, yes, more)
		}
	}
	check("\x00\x00\x06\x04\x00\x00\x00\x00\x00rest", true, false)
	check("\x00\x00\x00\x04\x00\x00\x00\x00\x00", true, false)
	check("\x00\x00\x06\x04\x00", false, true)
	check("\x00\x00\x05\x04\x00\x00\x00\x00\x00", false, false)
	check("220 mail", false, false)
	check("\x00\x00\x06\x04\x01", false, false)
	check("J\x00\x00\x00\x0a8.0", false, false) // MySQL's greeting
}

func FuzzClassify(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Add([]byte(preface))
	f.Fuzz(func(t *testing.T, b []byte) {
		var decided guess
		for n := 1; n <= len(b) && n <= maxPeek; n++ {
			got := classify(b[:n], Any)
			if decided != undecided && got != decided && !(decided == isTCP || decided == isTLS || decided == isHTTP1) {
				t.Fatalf("%q: %v became %v", b[:n], decided, got)
			}
			if decided = got; got != undecided {
				return
			}
			if n == maxPeek {
				t.Fatalf("%q: %d bytes do not decide", b[:n], n)
			}
		}
	})
}
