//go:build e2e

// Package e2e tests the real programs: hub, sidecars and services as
// processes on loopback, Debian's Prometheus and Chromium against them. The
// programs are built by make build before.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/scrape"
)

// root is the repository.
func root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// binary is a program of bin/.
func binary(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(root(t), "bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing: run make build first (%v)", path, err)
	}
	return path
}

// buildEnv has the go command build as make does, so that it finds what make has
// compiled.
var buildEnv = []string{"CGO_ENABLED=0"}

// buffer collects a process's output while it runs.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// child is a program under test.
type child struct {
	cmd  *exec.Cmd
	out  *buffer
	errs *buffer
	done chan struct{}
}

// start runs a program and ends it with the test.
func start(t testing.TB, env []string, name string, args ...string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(name, args...), out: &buffer{}, errs: &buffer{}, done: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.errs
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := c.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		_ = c.cmd.Wait() // the exit code is in ProcessState
		close(c.done)
	}()
	t.Cleanup(func() { c.stop(t) })
	return c
}

// stop ends the child as Ctrl-C would.
func (c *child) stop(t testing.TB) {
	t.Helper()
	select {
	case <-c.done:
		return
	default:
	}
	_ = c.cmd.Process.Signal(os.Interrupt) // it may just have ended
	select {
	case <-c.done:
	case <-time.After(40 * time.Second):
		t.Errorf("%s did not end on an interrupt\n%s", c.cmd.Path, c.errs)
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

// wait waits for the child to end by itself and returns its exit code.
func (c *child) wait(t testing.TB, limit time.Duration) int {
	t.Helper()
	select {
	case <-c.done:
		return c.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		t.Fatalf("%s still runs after %s\n%s\n%s", c.cmd.Path, limit, c.out, c.errs)
		return -1
	}
}

// ready is the demo's ready file.
type ready struct {
	UI, Hub, GRPC, Productpage, RequestID, Outbound, Logs string
	Services, Admins                                      map[string]string
	PIDs                                                  map[string]int
}

// demo is a running meshctl demo.
type demo struct {
	*child
	ready
	dir string
	t   testing.TB
}

// startDemo starts a demo on ports of its own and waits until it runs.
func startDemo(t testing.TB, args ...string) *demo {
	t.Helper()
	d := &demo{dir: t.TempDir(), t: t}
	file := filepath.Join(d.dir, "ready.json")
	all := append([]string{
		"demo", "--duration", "10m", "--http-address", "127.0.0.1:0", "--grpc-address", "127.0.0.1:0",
		"--data-dir", filepath.Join(d.dir, "data"), "--ready-file", file,
	}, args...)
	d.child = start(t, nil, binary(t, "meshctl"), all...)
	eventually(t, 30*time.Second, "the demo is ready", func() error {
		select {
		case <-d.done:
			t.Fatalf("the demo ended: %s%s", d.out, d.errs)
		default:
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return json.Unmarshal(b, &d.ready)
	})
	return d
}

// graph is the hub's graph over a window.
func (d *demo) graph(window int) topologyv1.Graph {
	d.t.Helper()
	var g topologyv1.Graph
	if err := getJSON(fmt.Sprintf("%s/api/mesh/v1/graph?window=%d", d.Hub, window), &g); err != nil {
		d.t.Fatal(err)
	}
	return g
}

// node of a workload.
func node(g topologyv1.Graph, workload string) topologyv1.Node {
	for _, n := range g.Nodes {
		if n.Workload == workload {
			return n
		}
	}
	return topologyv1.Node{}
}

// meshctl runs a command against the demo's hub.
func (d *demo) meshctl(args ...string) (stdout, stderr string, code int) {
	d.t.Helper()
	return run(d.t, []string{"MESHCTL_HUB=" + d.Hub, "MESHCTL_HUB_GRPC=" + d.GRPC}, binary(d.t, "meshctl"), args...)
}

// run runs a program to its end, which must come within a minute.
func run(t testing.TB, env []string, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := start(t, env, name, args...)
	code = c.wait(t, time.Minute)
	return c.out.String(), c.errs.String(), code
}

// through is a client whose requests go through the load's sidecar.
func (d *demo) through() *http.Client {
	proxy := &url.URL{Scheme: "http", Host: d.Outbound}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), MaxIdleConnsPerHost: 64}
	d.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 15 * time.Second}
}

// eventually polls until check succeeds; the last reason is reported.
func eventually(t testing.TB, limit time.Duration, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %s: %s: %v", limit, what, err)
		}
	}
}

func getJSON(url string, v any) error { return scrape.JSON(context.Background(), url, v) }

func get(url string) ([]byte, error) { return scrape.Body(context.Background(), url) }

// promql asks a Prometheus API for the sum of an instant vector.
func promql(base, query string) (float64, error) {
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := getJSON(base+"/api/v1/query?query="+url.QueryEscape(query), &answer); err != nil {
		return 0, err
	}
	if len(answer.Data.Result) == 0 {
		return 0, errors.New("empty answer to " + query)
	}
	var sum float64
	for _, r := range answer.Data.Result {
		s, _ := r.Value[1].(string)
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return 0, err
		}
		sum += f
	}
	return sum, nil
}

// processes lists the mesh's processes whose command line names dir.
func processes(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue // it has ended
		}
		line := strings.ReplaceAll(string(b), "\x00", " ")
		if strings.Contains(line, dir) || strings.Contains(line, "bookinfo") && strings.Contains(line, filepath.Join(root(t), "bin")) {
			found = append(found, line)
		}
	}
	return found
}
