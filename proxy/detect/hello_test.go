package detect

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"testing"
)

// clientHello is what crypto/tls sends with a configuration.
func clientHello(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	c.InsecureSkipVerify = true // only the first flight is looked at
	go func() {
		_ = tls.Client(near, c).Handshake() // ends with far
		near.Close()
	}()
	b := make([]byte, maxHello)
	n := 0
	for {
		m, err := far.Read(b[n:])
		if err != nil {
			t.Fatal(err)
		}
		if n += m; helloNeeds(b[:n]) == n {
			return b[:n]
		}
	}
}

// fragmented is a ClientHello in records of at most n bytes.
func fragmented(hello []byte, n int) []byte {
	var out []byte
	for piece := range slices.Chunk(hello[recordHeader:], n) {
		out = append(out, hello[:3]...)
		out = binary.BigEndian.AppendUint16(out, uint16(len(piece)))
		out = append(out, piece...)
	}
	return out
}

func TestParseHello(t *testing.T) {
	whole := clientHello(t, &tls.Config{ServerName: "Reviews.Default.svc.", NextProtos: []string{"h2", "http/1.1"}})
	old := clientHello(t, &tls.Config{MaxVersion: tls.VersionTLS12})
	for _, tc := range []struct {
		name  string
		input []byte
		want  hello
	}{
		{"names", whole, hello{sni: "reviews.default.svc", alpn: []string{"h2", "http/1.1"}}},
		{"none", old, hello{}},
		{"in pieces", fragmented(whole, 200), hello{sni: "reviews.default.svc", alpn: []string{"h2", "http/1.1"}}},
	} {
		got, ok := parseHello(tc.input)
		if !ok || got.sni != tc.want.sni || !slices.Equal(got.alpn, tc.want.alpn) {
			t.Errorf("%s: %+v, %v", tc.name, got, ok)
		}
		for n := range tc.input {
			if needs := helloNeeds(tc.input[:n]); needs <= n || needs > len(tc.input) {
				t.Fatalf("%s: after %d of %d bytes it needs %d", tc.name, n, len(tc.input), needs)
			}
			if _, ok := parseHello(tc.input[:n]); ok {
				t.Fatalf("%s: %d of %d bytes are enough", tc.name, n, len(tc.input))
			}
		}
	}
}

func TestAHelloIsBounded(t *testing.T) {
	whole := clientHello(t, &tls.Config{ServerName: "a.example"})
	long := bytes.Clone(whole[:recordHeader+4])
	long[3], long[4] = 0xff, 0xff
	many := fragmented(whole, 1)
	other := bytes.Clone(whole)
	other[recordHeader] = 2 // a ServerHello
	for name, b := range map[string][]byte{"a long record": long, "many records": many, "another message": other, "another record": {23, 3, 1, 0, 1}} {
		if n := helloNeeds(b); n != -1 {
			t.Errorf("%s: needs %d, want -1", name, n)
		}
		if _, ok := parseHello(b); ok {
			t.Errorf("%s is parsed", name)
		}
	}
}

func TestAHostNameHasNoOtherBytes(t *testing.T) {
	for name, want := range map[string]bool{"a-b.c_d.9": true, "": false, "a\nb": false, "a b": false, "é": false, string(make([]byte, 256)): false} {
		if isHostName([]byte(name)) != want {
			t.Errorf("%q: want %v", name, want)
		}
	}
}

func FuzzHello(f *testing.F) {
	f.Add(clientHello(f, &tls.Config{ServerName: "a.example", NextProtos: []string{"h2"}}))
	f.Add(fragmented(clientHello(f, &tls.Config{MaxVersion: tls.VersionTLS12}), 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		needs := helloNeeds(b)
		if needs > maxHello+recordHeader {
			t.Fatalf("needs %d bytes", needs)
		}
		h, ok := parseHello(b)
		if !ok {
			return
		}
		if needs > len(b) || needs < 0 {
			t.Fatalf("parsed, but needs %d of %d bytes", needs, len(b))
		}
		if len(h.sni) > maxSNI || len(h.alpn) > maxProtocols {
			t.Fatalf("unbounded: %d, %d", len(h.sni), len(h.alpn))
		}
		oracle(t, b, h)
	})
}

// oracle compares with what crypto/tls reads, where it accepts the bytes.
func oracle(t *testing.T, b []byte, h hello) {
	near, far := net.Pipe()
	go func() {
		_, _ = near.Write(b) // the server may have seen enough
		near.Close()
	}()
	defer far.Close()
	enough := errors.New("enough")
	_ = tls.Server(far, &tls.Config{GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
		if h.sni != "" && i.ServerName != "" && !bytes.EqualFold([]byte(h.sni), bytes.TrimSuffix([]byte(i.ServerName), []byte("."))) {
			t.Errorf("server name %q, crypto/tls says %q", h.sni, i.ServerName)
		}
		if n := min(len(h.alpn), len(i.SupportedProtos)); !slices.Equal(h.alpn[:n], i.SupportedProtos[:n]) {
			t.Errorf("protocols %q, crypto/tls says %q", h.alpn, i.SupportedProtos)
		}
		return nil, enough
	}}).Handshake()
}
