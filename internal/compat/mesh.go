package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// mesh is a hub, a service with its sidecar, and the sidecar of a caller.
type mesh struct {
	dir                 string
	app                 *httptest.Server
	stderr              output // of all processes
	procs               []*exec.Cmd
	hub, caller, callee map[string]string // addresses
}

// output collects what several processes write.
type output struct {
	mu sync.Mutex // guards the field below
	b  bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// tail is the last n lines.
func (o *output) tail(n int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(o.b.String()), "\n")
	return strings.Join(lines[max(len(lines)-n, 0):], "\n")
}

// start starts all and waits until the caller finds the service. stop is to be called
// also after an error.
func (m *mesh) start(ctx context.Context, hub, caller, callee string) (err error) {
	if m.dir, err = os.MkdirTemp("", "compat"); err != nil {
		return err
	}
	m.app = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/fail/") {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprintln(w, r.URL.Path)
	}))
	_, port, err := net.SplitHostPort(m.app.Listener.Addr().String())
	if err != nil {
		return err
	}
	if m.hub, err = m.run(ctx, hub, "mesh-hub", "--data-dir", filepath.Join(m.dir, "data"), "--http-address", "127.0.0.1:0", "--grpc-address", "127.0.0.1:0"); err != nil {
		return err
	}
	if m.callee, err = m.sidecar(ctx, callee, "--service", "shop", "--app-port", port, "--service-port", "80"); err != nil {
		return err
	}
	if m.caller, err = m.sidecar(ctx, caller, "--service", "till"); err != nil {
		return err
	}
	return m.awaitRoute(ctx)
}

func (m *mesh) sidecar(ctx context.Context, bin string, flags ...string) (map[string]string, error) {
	return m.run(ctx, bin, "mesh-proxy", append([]string{
		"--hub", m.hub["grpc"], "--inbound-address", "127.0.0.1:0", "--outbound-address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0",
	}, flags...)...)
}

// run starts a program and waits until it says where it listens.
func (m *mesh) run(ctx context.Context, bin, name string, args ...string) (map[string]string, error) {
	file := filepath.Join(m.dir, fmt.Sprintf("addresses%d", len(m.procs)))
	cmd := exec.Command(filepath.Join(bin, name), append(args, "--address-file", file, "--log-level", "warn")...) //nolint:gosec // our own binaries
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = &m.stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	m.procs = append(m.procs, cmd)
	for range 800 {
		var address map[string]string
		if b, err := os.ReadFile(file); err == nil && json.Unmarshal(b, &address) == nil {
			return address, nil
		}
		if err := pause(ctx, 25*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s of %s does not say where it listens", name, bin)
}

// stop ends the processes but for the first n, those that were started last first.
func (m *mesh) stop(n int) {
	for len(m.procs) > n {
		p := m.procs[len(m.procs)-1]
		m.procs = m.procs[:len(m.procs)-1]
		_ = p.Process.Signal(syscall.SIGTERM) // it may have ended
		late := time.AfterFunc(20*time.Second, func() { _ = p.Process.Kill() })
		_ = p.Wait() // its exit code says nothing more than what is compared
		late.Stop()
	}
}

func (m *mesh) close() {
	m.stop(0)
	if m.app != nil {
		m.app.Close()
	}
	_ = os.RemoveAll(m.dir) // a temporary folder
}

func (m *mesh) client() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: m.caller["outbound"]})}}
}

// call sends a request through both sidecars.
func call(ctx context.Context, c *http.Client, path, id string) (status int, err error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://shop"+path, nil)
	if err != nil {
		return 0, err
	}
	q.Header.Set("x-request-id", id)
	r, err := c.Do(q)
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode < 600 && strings.TrimSpace(string(b)) != path {
		return r.StatusCode, fmt.Errorf("GET %s answers %d %q", path, r.StatusCode, b)
	}
	return r.StatusCode, err
}

func (m *mesh) awaitRoute(ctx context.Context) error {
	c := m.client()
	defer c.CloseIdleConnections()
	var last error
	for i := range 200 {
		if _, last = call(ctx, c, "/warm", fmt.Sprint("warm-", i)); last == nil {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("the caller does not find the service: %w", last)
}

// hubURL is where the hub answers path.
func (m *mesh) hubURL(path string) string { return "http://" + m.hub["http"] + path }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return errors.Join(errors.New("interrupted"), ctx.Err())
	}
}
