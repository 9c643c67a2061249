// Package s3server runs a real S3 server on loopback for tests and benchmarks:
// versitygw, whose objects are files of a folder.
package s3server

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/telemesh/telemesh/internal/process"
)

const (
	bucket = "records"
	key    = "telemesh-test"
	// Secret is that of the key in Config.
	Secret = "not-a-secret"

	startTries = 5 // another process may take the free port first
	startWait  = 10 * time.Second
)

// Server is a running server with one bucket.
type Server struct {
	Address string // host:port
	dir     string
	process *process.Process
}

// Start starts the program, which `make bin/tools/versitygw` builds, with its
// objects in dir. The caller stops it.
func Start(program, dir string) (*Server, error) {
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("the S3 server of the tests is missing: run 'make bin/tools/versitygw': %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, bucket), 0o755); err != nil {
		return nil, err
	}
	var said bytes.Buffer
	for range startTries {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		address := l.Addr().String()
		if err := l.Close(); err != nil {
			return nil, err
		}
		said.Reset()
		p, err := process.Start(process.Spec{
			Name: "versitygw", Path: program, Output: &said,
			Args: []string{"--port", address, "--access", key, "--secret", Secret, "--quiet", "--keep-alive", "posix", dir},
		})
		if err != nil {
			return nil, err
		}
		if accepts(p, address) {
			return &Server{address, dir, p}, nil
		}
		p.Kill()
		<-p.Done()
	}
	return nil, errors.New("the S3 server does not start:\n" + said.String())
}

func accepts(p *process.Process, address string) bool {
	for until := time.Now().Add(startWait); time.Now().Before(until); {
		if c, err := net.Dial("tcp", address); err == nil {
			return c.Close() == nil
		}
		select {
		case <-p.Done():
			return false
		case <-time.After(25 * time.Millisecond):
		}
	}
	return false
}

// Config is the Thanos YAML block of the bucket, by way of an endpoint of the
// form host:port: the server's Address, or something in front of it.
func Config(endpoint, prefix string) string {
	return fmt.Sprintf("type: S3\nconfig: {bucket: %s, endpoint: %q, region: us-east-1, insecure: true, access_key: %s, secret_key: %s}\nprefix: %s\n",
		bucket, endpoint, key, Secret, prefix)
}

// Files is the folder in which the objects of a prefix are files.
func (s *Server) Files(prefix string) string { return filepath.Join(s.dir, bucket, prefix) }

// Stop ends the server.
func (s *Server) Stop() { s.process.Stop(5 * time.Second) }
