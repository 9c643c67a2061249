// Package tlsfiles makes TLS configurations from PEM files that are replaced
// under a running sidecar, as certificate tools do.
package tlsfiles

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"
)

const (
	defaultPoll      = time.Second
	defaultHandshake = 10 * time.Second
	// maxFile bounds a file: real ones have a few kilobytes, a bundle of every
	// public CA has 250.
	maxFile = 1 << 20
)

// Files are the PEM files. A server needs Cert and Key; CA is what the other
// end's certificate is checked against. A client may do without Cert and Key.
type Files struct{ Cert, Key, CA string }

// Options of a source.
type Options struct {
	Files
	// Poll is how often the files are looked at; 0 means every second.
	Poll   time.Duration
	Logger *slog.Logger
}

// Source holds what the files last said that was sound. Safe for concurrent use.
type Source struct {
	o       Options
	current atomic.Pointer[material]
	// seen is how the files looked when they were last read; only Run and New
	// touch it.
	seen     [3]stamp
	reloads  atomic.Uint64
	failures atomic.Uint64
}

// material is one state of the files. Immutable.
type material struct {
	certificate *tls.Certificate // nil if there are no such files
	roots       *x509.CertPool   // nil likewise
}

// stamp tells two states of a file apart.
type stamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

// New reads the files, all of which must be sound.
func New(o Options) (*Source, error) {
	if (o.Cert == "") != (o.Key == "") {
		return nil, errors.New("a certificate and its key come together: one of the two files is not named")
	}
	if o.Poll <= 0 {
		o.Poll = defaultPoll
	}
	s := &Source{o: o, seen: stamps(o.Files)}
	m, err := load(o.Files)
	if err != nil {
		return nil, err
	}
	s.current.Store(m)
	return s, nil
}

// Run looks at the files until ctx ends. What is not sound is logged and
// counted, and what was sound before stays in force. Live connections are left
// alone: they keep the certificates that they were made with.
func (s *Source) Run(ctx context.Context) error {
	tick := time.NewTicker(s.o.Poll)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.refresh()
		case <-ctx.Done():
			return nil
		}
	}
}

// refresh reads the files if one of them looks changed. A failed read is tried
// again with the next change: a writer that is half-way leaves a trace when it
// finishes.
func (s *Source) refresh() {
	now := stamps(s.o.Files)
	if now == s.seen {
		return
	}
	s.seen = now
	m, err := load(s.o.Files)
	if err != nil {
		s.failures.Add(1)
		s.o.Logger.Warn("TLS files are not usable, keeping the last good ones", "error", err)
		return
	}
	s.current.Store(m)
	s.reloads.Add(1)
	s.o.Logger.Info("TLS files reloaded", "certificate", s.o.Cert, "not_after", m.notAfter())
}

// Reloads counts the changes that came into force, and those that were refused.
func (s *Source) Reloads() (taken, refused uint64) { return s.reloads.Load(), s.failures.Load() }

// NotAfter is when the certificate expires; the zero time without one.
func (s *Source) NotAfter() time.Time { return s.current.Load().notAfter() }

// Principal is the SPIFFE ID of the certificate; empty without one.
func (s *Source) Principal() string {
	if c := s.current.Load().certificate; c != nil {
		return principal(c.Leaf)
	}
	return ""
}

func (m *material) notAfter() time.Time {
	if m.certificate == nil {
		return time.Time{}
	}
	return m.certificate.Leaf.NotAfter
}

func load(f Files) (*material, error) {
	m := &material{}
	if f.Cert != "" {
		chain, err := read(f.Cert)
		if err != nil {
			return nil, err
		}
		key, err := read(f.Key)
		if err != nil {
			return nil, err
		}
		c, err := tls.X509KeyPair(chain, key) // also checks that the two belong together
		if err != nil {
			return nil, fmt.Errorf("load certificate %s with key %s: %w", f.Cert, f.Key, err)
		}
		m.certificate = &c
	}
	if f.CA != "" {
		b, err := read(f.CA)
		if err != nil {
			return nil, err
		}
		m.roots = x509.NewCertPool()
		if !m.roots.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("load CA %s: no certificate in it", f.CA)
		}
	}
	return m, nil
}

func read(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("read %s: %d bytes, want at most %d", name, info.Size(), maxFile)
	}
	return os.ReadFile(name)
}

// Handshake ends TLS on an accepted connection. On an error c is closed. The
// time-out is 10 seconds if timeout is 0.
func Handshake(ctx context.Context, c net.Conn, config *tls.Config, timeout time.Duration) (*tls.Conn, error) {
	if timeout <= 0 {
		timeout = defaultHandshake
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	secure := tls.Server(c, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", c.RemoteAddr(), err)
	}
	return secure, nil
}
