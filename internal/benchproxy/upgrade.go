package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	upgradeRate  = 5000 // requests a second
	upgradeTimes = 3
	// Callers keep their connections, but for every eighth, which makes one for
	// each request. Every second calls through the outbound listener, so that its
	// requests pass the sidecar twice.
	upgradeCallers = 64
	callerTimeout  = 10 * time.Second
)

// upgrade replaces the running mesh-proxy by hand-over under load, several
// times, and prints what the callers saw.
func upgrade(ctx context.Context, o options) error {
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	u := &upgrader{bench: b, handOver: filepath.Join(b.dir, "hand-over"), args: []string{"--inbound-address", "127.0.0.1:0", "--outbound-address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0"}}
	current, err := u.start(ctx)
	if err != nil {
		return err
	}
	defer func() { end(current) }()
	if err := u.awaitRoute(ctx); err != nil {
		return err
	}
	l := newPacedLoad(u.addresses, o.duration)
	began := time.Now()
	running := l.run(began)
	var exits []string
	for i := range upgradeTimes {
		select {
		case <-time.After(time.Until(began.Add(o.duration * time.Duration(i+1) / (upgradeTimes + 1)))):
		case <-ctx.Done():
			return ctx.Err()
		}
		old, at := current, time.Now()
		l.upgrading.Store(true)
		if current, err = u.start(ctx); err != nil {
			current = old
			return fmt.Errorf("upgrade %d: %w", i+1, err)
		}
		if err := exited(old, 20*time.Second); err != nil {
			return fmt.Errorf("upgrade %d: the old process: %w", i+1, err)
		}
		l.upgrading.Store(false)
		exits = append(exits, time.Since(at).Round(time.Millisecond).String())
	}
	<-running
	fmt.Println(l)
	fmt.Printf("upgrades %d, from the start of the new process to the old one's exit 0: %s\n", upgradeTimes, strings.Join(exits, " "))
	return u.compare(ctx, l)
}

// upgrader starts one generation of the sidecar after the other.
type upgrader struct {
	bench      *bench
	handOver   string
	args       []string
	addresses  map[string]string // of the first one, and so of all
	generation int
}

func (u *upgrader) start(ctx context.Context) (*exec.Cmd, error) {
	u.generation++
	_, port, err := net.SplitHostPort(u.bench.backends["http1"])
	if err != nil {
		return nil, err
	}
	file := filepath.Join(u.bench.dir, "addresses"+strconv.Itoa(u.generation))
	cmd, err := u.bench.spawn(ctx, filepath.Join(u.bench.o.bin, "mesh-proxy"), append([]string{
		"--service", "app", "--app-port", port, "--service-port", "80", "--hub", u.bench.hub, "--hand-over", u.handOver, "--address-file", file,
	}, u.args...)...)
	if err != nil {
		return nil, err
	}
	a, err := addresses(ctx, file)
	if err != nil {
		end(cmd)
		return nil, err
	}
	if u.addresses == nil {
		u.addresses = a
	}
	for _, role := range []string{"inbound", "outbound", "admin", "instance"} {
		if a[role] != u.addresses[role] {
			end(cmd)
			return nil, fmt.Errorf("%s moved from %s to %s", role, u.addresses[role], a[role])
		}
	}
	return cmd, nil
}

// awaitRoute waits until the sidecar finds its own service through the hub.
func (u *upgrader) awaitRoute(ctx context.Context) error {
	for range 400 {
		c := &caller{address: u.addresses["outbound"], url: "http://app/"}
		err := c.get()
		c.end()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("the sidecar does not find its own service")
}

// compare holds what the hub has counted against what was sent.
func (u *upgrader) compare(ctx context.Context, l *pacedLoad) error {
	hub, err := addresses(ctx, filepath.Join(u.bench.dir, "hub"))
	if err != nil {
		return err
	}
	var in, out float64
	for range 100 { // telemetry is sent every quarter of a second
		if in, out, err = counted(ctx, "http://"+hub["http"]+"/metrics"); err != nil {
			return err
		}
		if in >= float64(l.answered.Load()) && out >= float64(l.outbound.Load()) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	fmt.Printf("answered %d, counted by the hub %.0f inbound; of those through outbound %d, counted %.0f\n",
		l.answered.Load(), in, l.outbound.Load(), out)
	if in != float64(l.answered.Load()) || out != float64(l.outbound.Load()) || l.refused.Load()+l.reset.Load()+l.failed.Load() > 0 {
		return errors.New("an upgrade was noticed")
	}
	return nil
}

// counted sums the requests with status 200 on a metrics page, by reporter. The
// first request through outbound, which awaitRoute made, is taken off.
func counted(ctx context.Context, url string) (in, out float64, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, 0, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, 0, err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "} ")
		if !strings.HasPrefix(name, "istio_requests_total{") || !strings.Contains(name, `response_code="200"`) {
			continue
		}
		n, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
		if err != nil {
			return 0, 0, err
		}
		if strings.Contains(name, `reporter="destination"`) {
			in += n
		} else {
			out += n
		}
	}
	return in - 1, out - 1, lines.Err()
}

// exited waits for a process to end with 0.
func exited(cmd *exec.Cmd, limit time.Duration) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(limit):
		return errors.New("still runs")
	}
}

// pacedLoad sends at a fixed rate, whatever the answers do: a latency is from
// when a request was due.
type pacedLoad struct {
	addresses                                  map[string]string
	duration                                   time.Duration
	answered, outbound, refused, reset, failed atomic.Int64
	longest, longestInUpgrade                  atomic.Int64 // nanoseconds
	upgrading                                  atomic.Bool
	firstError                                 atomic.Pointer[error]
}

func newPacedLoad(addresses map[string]string, d time.Duration) *pacedLoad {
	return &pacedLoad{addresses: addresses, duration: d}
}

// run returns a channel that is closed when all callers have ended.
func (l *pacedLoad) run(began time.Time) <-chan struct{} {
	var callers sync.WaitGroup
	for i := range upgradeCallers {
		callers.Go(func() { l.call(i, began) })
	}
	done := make(chan struct{})
	go func() { callers.Wait(); close(done) }()
	return done
}

func (l *pacedLoad) call(i int, began time.Time) {
	c := &caller{address: l.addresses["inbound"], url: "/", once: i%8 == 7}
	throughOutbound := i%2 == 0 || i%16 == 15
	if throughOutbound {
		c.address, c.url = l.addresses["outbound"], "http://app/"
	}
	defer c.end()
	const each = time.Second * upgradeCallers / upgradeRate
	for due := began.Add(each * time.Duration(i) / upgradeCallers); due.Before(began.Add(l.duration)); due = due.Add(each) {
		time.Sleep(time.Until(due))
		upgrading := l.upgrading.Load()
		err := c.get()
		took := int64(time.Since(due))
		raise(&l.longest, took)
		if upgrading || l.upgrading.Load() {
			raise(&l.longestInUpgrade, took)
		}
		switch {
		case err == nil:
			l.answered.Add(1)
			if throughOutbound {
				l.outbound.Add(1)
			}
			continue
		case errors.Is(err, syscall.ECONNREFUSED):
			l.refused.Add(1)
		case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			l.reset.Add(1)
		default:
			l.failed.Add(1)
		}
		l.firstError.CompareAndSwap(nil, &err)
		c.end()
	}
}

func raise(most *atomic.Int64, v int64) {
	for old := most.Load(); v > old && !most.CompareAndSwap(old, v); old = most.Load() {
	}
}

// String is the result in one line.
func (l *pacedLoad) String() string {
	all := l.answered.Load() + l.refused.Load() + l.reset.Load() + l.failed.Load()
	text := fmt.Sprintf("%d requests at %d/s: refused %d, reset %d, failed %d; longest %s during an upgrade, %s at all",
		all, upgradeRate, l.refused.Load(), l.reset.Load(), l.failed.Load(),
		time.Duration(l.longestInUpgrade.Load()).Round(time.Microsecond), time.Duration(l.longest.Load()).Round(time.Microsecond))
	if err := l.firstError.Load(); err != nil {
		text += "; first: " + (*err).Error()
	}
	return text
}

// caller is one connection at a time. It sends nothing twice and closes only
// when it was told to, or for each request.
type caller struct {
	address, url string
	once         bool
	conn         net.Conn
	in           *bufio.Reader
}

func (c *caller) get() error {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.address, callerTimeout)
		if err != nil {
			return err
		}
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	_ = c.conn.SetDeadline(time.Now().Add(callerTimeout))
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: app\r\n\r\n", c.url); err != nil {
		return err
	}
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return err
	}
	if c.once || r.Close {
		c.end()
	}
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", r.StatusCode)
	}
	return nil
}

func (c *caller) end() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
	c.conn = nil
}
