package tlsfiles

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/testca"
)

// patience bounds a test that would otherwise hang; nothing is timed with it.
const patience = 20 * time.Second

func source(t testing.TB, f Files) *Source {
	t.Helper()
	s, err := New(Options{Files: f, Poll: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// echo accepts TLS and echoes; accepted gets what each handshake led to.
func echo(t testing.TB, config *tls.Config) (address string, accepted chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted = make(chan error, 16)
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				secure, err := Handshake(context.Background(), c, config, patience)
				accepted <- err
				if err == nil {
					io.Copy(secure, secure)
					secure.Close()
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wait.Wait() })
	return l.Addr().String(), accepted
}

// call sends a byte and gets it back.
func call(address string, config *tls.Config) (*tls.Conn, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, config)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(patience))
	if err := ping(c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func ping(c net.Conn) error {
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

const reviewer, rater = "spiffe://local/ns/default/sa/reviews", "spiffe://local/ns/default/sa/ratings"

func TestMutualTLSTellsEachEndWhoTheOtherIs(t *testing.T) {
	a := testca.New(t)
	server := source(t, Files(a.Write(t.TempDir(), 2, "ratings", rater)))
	client := source(t, Files(a.Write(t.TempDir(), 3, "reviews", reviewer)))
	config := must[*tls.Config](t)(server.Server(Mutual, nil))
	address, accepted := echo(t, config)
	c, err := call(address, must[*tls.Config](t)(client.Client(Peer{Name: "ratings", Principals: []string{rater}}, []string{"h2"})))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	state := c.ConnectionState()
	if got := Principal(&state); got != rater || state.NegotiatedProtocol != "h2" || state.Version < tls.VersionTLS12 {
		t.Errorf("the server is %q, speaks %q", got, state.NegotiatedProtocol)
	}
	if err := <-accepted; err != nil {
		t.Error(err)
	}
}

func TestWhoIsNotKnownIsRefused(t *testing.T) {
	a, stranger := testca.New(t), testca.New(t)
	server := source(t, Files(a.Write(t.TempDir(), 2, "ratings", rater)))
	address, accepted := echo(t, must[*tls.Config](t)(server.Server(Mutual, nil)))
	known := Files(a.Write(t.TempDir(), 3, "reviews", reviewer))
	foreign := Files(stranger.Write(t.TempDir(), 4, "reviews", reviewer))
	foreign.CA = known.CA
	for name, tc := range map[string]struct {
		files Files
		peer  Peer
	}{
		"a caller without certificate":  {Files{CA: known.CA}, Peer{Name: "ratings"}},
		"a caller of another CA":        {foreign, Peer{Name: "ratings"}},
		"a server of another name":      {known, Peer{Name: "details"}},
		"a server of another principal": {known, Peer{Principals: []string{reviewer}}},
		"a server of another CA":        {Files{CA: Files(stranger.Write(t.TempDir(), 5, "x", "")).CA}, Peer{Name: "ratings"}},
	} {
		if c, err := call(address, must[*tls.Config](t)(source(t, tc.files).Client(tc.peer, nil))); err == nil {
			c.Close()
			t.Errorf("%s is let through", name)
		}
		<-accepted
	}
	old := must[*tls.Config](t)(source(t, known).Client(Peer{Name: "ratings"}, nil))
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if c, err := call(address, old); err == nil {
		c.Close()
		t.Error("TLS 1.1 is accepted")
	}
	<-accepted
}

func TestFilesAreReplacedUnderLiveConnections(t *testing.T) {
	a, dir := testca.New(t), t.TempDir()
	files := Files(a.Write(dir, 2, "ratings", rater))
	s := source(t, files)
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() { _ = s.Run(ctx); close(stopped) }()
	defer func() { cancel(); <-stopped }()
	address, _ := echo(t, must[*tls.Config](t)(s.Server(Simple, nil)))
	client := func(a *testca.Authority) *tls.Config {
		pool := x509.NewCertPool()
		pool.AddCert(a.Cert)
		return &tls.Config{RootCAs: pool, ServerName: "ratings"}
	}
	first, err := call(address, client(a))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()

	// Something that is no key pair is counted and changes nothing.
	testca.Replace(t, files.Key, []byte("no key"))
	until(t, func() bool { _, refused := s.Reloads(); return refused > 0 })
	second, err := call(address, client(a))
	if err != nil {
		t.Fatalf("after a bad change: %v", err)
	}
	second.Close()

	// Another CA and another certificate come into force together.
	next := testca.New(t)
	next.Write(dir, 9, "ratings", rater)
	until(t, func() bool {
		c, err := call(address, client(next))
		if err != nil {
			return false
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64() == 9
	})
	if taken, _ := s.Reloads(); taken == 0 {
		t.Error("the change is not counted")
	}
	if c, err := call(address, client(a)); err == nil {
		c.Close()
		t.Error("the old certificate is still served")
	}
	if err := ping(first); err != nil {
		t.Errorf("the connection from before: %v", err)
	}
}

func until(t testing.TB, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to pass")
		}
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	a := testca.New(t)
	f := Files(a.Write(t.TempDir(), 2, "ratings", ""))
	log := slog.New(slog.DiscardHandler)
	for _, tc := range []struct {
		files Files
		want  string
	}{
		{Files{Cert: f.Cert}, "come together"},
		{Files{Cert: f.Cert, Key: f.CA}, "load certificate"},
		{Files{CA: f.Key}, "no certificate in it"},
		{Files{CA: f.CA + "x"}, "no such file"},
	} {
		if _, err := New(Options{Files: tc.files, Logger: log}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.files, err, tc.want)
		}
	}
	if _, err := source(t, Files{CA: f.CA}).Server(Simple, nil); err == nil {
		t.Error("a server without certificate")
	}
	if _, err := source(t, Files{Cert: f.Cert, Key: f.Key}).Server(Mutual, nil); err == nil {
		t.Error("mutual TLS without CA")
	}
	if _, err := source(t, f).Client(Peer{}, nil); err == nil {
		t.Error("a client that expects nobody")
	}
}

func TestAHandshakeThatDoesNotComeEnds(t *testing.T) {
	a := testca.New(t)
	s := source(t, Files(a.Write(t.TempDir(), 2, "ratings", "")))
	near, far := net.Pipe()
	defer far.Close()
	if _, err := Handshake(t.Context(), near, must[*tls.Config](t)(s.Server(Simple, nil)), time.Millisecond); err == nil {
		t.Error("no error")
	}
	if _, err := near.Write(nil); err == nil {
		t.Error("the connection is left open")
	}
}

func TestAPrincipalIsOneSPIFFEID(t *testing.T) {
	for id, want := range map[string]bool{
		reviewer: true, "spiffe://local": true, "https://local/a": false, "spiffe://u@local/a": false, "spiffe://local:1/a": false,
		"spiffe://local/a?b": false, "spiffe://local/a#b": false, "spiffe:///a": false, "spiffe://local/a/": false, "spiffe://local//a": false, "spiffe://local/%20": false,
	} {
		u, err := url.Parse(id)
		if err != nil {
			t.Fatal(err)
		}
		if got := principal(&x509.Certificate{URIs: []*url.URL{u}}) != ""; got != want {
			t.Errorf("%s: %v, want %v", id, got, want)
		}
	}
	two, _ := url.Parse(reviewer)
	if principal(&x509.Certificate{URIs: []*url.URL{two, two}}) != "" || Principal(nil) != "" || Principal(&tls.ConnectionState{}) != "" {
		t.Error("a principal out of nothing, or out of two")
	}
}
