package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/telemesh/telemesh/internal/procstat"
)

// bench holds what all targets share: backends, hub, a place for logs.
type bench struct {
	o         options
	dir       string
	hub       string
	logSocket string
	stderr    io.Writer
	backends  map[string]string // by protocol
	procs     []*exec.Cmd
	rest      string // cores of everything but the proxy
	// proxyCores are the proxy's.
	proxyCores string
}

func newBench(ctx context.Context, o options) (*bench, error) {
	dir, err := os.MkdirTemp("", "benchproxy")
	if err != nil {
		return nil, err
	}
	b := &bench{o: o, dir: dir, proxyCores: "0", backends: make(map[string]string), stderr: io.Discard}
	b.rest = "1-" + strconv.Itoa(max(runtime.NumCPU()-1, 1))
	if runtime.NumCPU() == 1 {
		b.rest = "0"
	}
	if os.Getenv("VERBOSE") != "" {
		b.stderr = os.Stderr
	}
	for _, step := range []func(context.Context) error{b.startLogs, b.startHub, b.startBackends} {
		if err := step(ctx); err != nil {
			b.close()
			return nil, err
		}
	}
	return b, nil
}

func (b *bench) close() {
	for _, p := range b.procs {
		end(p)
	}
	_ = os.RemoveAll(b.dir) // a temporary folder
}

// startLogs takes haproxy's log lines as syslog would, and drops them.
func (b *bench) startLogs(ctx context.Context) error {
	b.logSocket = filepath.Join(b.dir, "log")
	c, err := net.ListenPacket("unixgram", b.logSocket)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = c.Close() })
	go func() {
		buf := make([]byte, 64<<10)
		for {
			if _, _, err := c.ReadFrom(buf); err != nil {
				return
			}
		}
	}()
	return nil
}

func (b *bench) startHub(ctx context.Context) error {
	file := filepath.Join(b.dir, "hub")
	cmd, err := b.spawn(ctx, "taskset", "-c", b.rest, filepath.Join(b.o.bin, "mesh-hub"), "--http-address", "127.0.0.1:0", "--grpc-address", "127.0.0.1:0",
		"--data-dir", filepath.Join(b.dir, "data"), "--address-file", file)
	if err != nil {
		return err
	}
	b.procs = append(b.procs, cmd)
	a, err := addresses(ctx, file)
	if err != nil {
		return fmt.Errorf("start hub: %w", err)
	}
	b.hub = a["grpc"]
	return nil
}

func (b *bench) startBackends(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, protocol := range []string{"http1", "grpc"} {
		cmd := b.command(ctx, "taskset", "-c", b.rest, self, "-backend", protocol)
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		b.procs = append(b.procs, cmd)
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			return fmt.Errorf("start %s backend: %w", protocol, err)
		}
		b.backends[protocol] = strings.TrimSpace(line)
	}
	return message(filepath.Join(b.dir, "message"))
}

// row is what one target showed, a value for each round.
type row struct {
	Target   string    `json:"target"`
	Protocol string    `json:"protocol"`
	CPU      []float64 `json:"cpu_us_per_request"`
	RPS      []float64 `json:"rps"`
	RSS      []float64 `json:"rss_mb"`
}

// measure gives every target of a protocol its turn in every round, ours at
// both ends of a round in turn: A B C D, D C B A.
func (b *bench) measure(ctx context.Context, protocol string) ([]*row, error) {
	var all []target
	var rows []*row
	for _, t := range targets() {
		if t.protocol == protocol && (b.o.targets == "" || slices.Contains(strings.Split(b.o.targets, ","), t.name)) {
			all, rows = append(all, t), append(rows, &row{Target: t.name, Protocol: protocol})
		}
	}
	for round := range b.o.rounds {
		for i := range all {
			if round%2 == 1 {
				i = len(all) - 1 - i
			}
			if err := b.turn(ctx, all[i], rows[i]); err != nil {
				return nil, fmt.Errorf("%s %s: %w", protocol, all[i].name, err)
			}
			r := rows[i]
			fmt.Fprintf(os.Stderr, "round %d %-5s %-12s %6.2f us %8.0f rps %6.1f MB\n", round+1, protocol, r.Target, r.CPU[round], r.RPS[round], r.RSS[round])
		}
	}
	return rows, nil
}

// turn starts a target, warms it up, and measures it under load.
func (b *bench) turn(ctx context.Context, t target, r *row) error {
	p, err := b.start(ctx, t, b.backends[t.protocol])
	if err != nil {
		return err
	}
	defer p.close()
	if _, err := b.load(ctx, t.protocol, p.address, time.Second); err != nil {
		return err
	}
	before, err := procstat.CPU(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	began := time.Now()
	requests, err := b.load(ctx, t.protocol, p.address, b.o.duration)
	if err != nil {
		return err
	}
	took := time.Since(began)
	after, err := procstat.CPU(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	r.CPU = append(r.CPU, round(float64((after-before).Microseconds())/requests, 3))
	r.RPS = append(r.RPS, round(requests/took.Seconds(), 0))
	r.RSS = append(r.RSS, round(procstat.RSS(p.cmd.Process.Pid)/1e6, 1))
	return nil
}

func round(v float64, digits int) float64 {
	scale := math.Pow10(digits)
	return math.Round(v*scale) / scale
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in`)
	wrkErrors   = regexp.MustCompile(`Socket errors: (.*)|Non-2xx or 3xx responses: (\d+)`)
	h2Requests  = regexp.MustCompile(`requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, (\d+) errored`)
)

// load runs the load generator and returns how many requests it completed.
func (b *bench) load(ctx context.Context, protocol, address string, d time.Duration) (float64, error) {
	seconds := strconv.Itoa(max(int(d/time.Second), 1))
	argv := []string{
		"wrk", "-t1", "-c64", "-d" + seconds, "-H", "User-Agent: wrk/4", "-H", "Accept: */*",
		"-H", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "http://" + address + "/reviews/1",
	}
	if protocol == "grpc" {
		argv = []string{
			"h2load", "-c8", "-m8", "-t1", "-D" + seconds, "-d", filepath.Join(b.dir, "message"), "-H", "content-type: application/grpc",
			"-H", "te: trailers", "http://" + address + "/bench.Echo/Unary",
		}
	}
	out, err := exec.CommandContext(ctx, "taskset", append([]string{"-c", b.rest}, argv...)...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", argv[0], err, out)
	}
	if protocol == "grpc" {
		m := h2Requests.FindSubmatch(out)
		if m == nil || string(m[2]) != "0" {
			return 0, fmt.Errorf("h2load reports failures: %s", out)
		}
		return strconv.ParseFloat(string(m[1]), 64)
	}
	if m := wrkErrors.Find(out); m != nil {
		return 0, fmt.Errorf("wrk reports %s", m)
	}
	m := wrkRequests.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("wrk says no count: %s", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}
