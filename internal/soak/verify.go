package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/scrape"
	"github.com/telemesh/telemesh/internal/vocab"
)

// verdict is what the checks of one kind of call came to.
type verdict struct {
	sent, answered, failed, left int
	flags                        map[string]int // of the calls that failed
	retried, again               int            // attempts beyond the first; calls that the application saw more than once
	source, destination          int            // records
	hung                         []string       // failures that took too long to come, although at a kill
	wrong                        []string       // what must not be
	wrongs                       int
}

// hungAfter is well above the longest disturbance.
const hungAfter = 10 * time.Second

// maxWrong is how many violations of a kind are told in words.
const maxWrong = 4

func (v *verdict) fault(c *call, format string, args ...any) {
	if v.wrongs++; len(v.wrong) < maxWrong {
		v.wrong = append(v.wrong, fmt.Sprintf("%s %s (%s at +%s, client saw %d/%d ok=%t %q): %s", c.kind, c.id, c.ended.Sub(c.began).Round(time.Millisecond),
			c.began.Format("15:04:05.000"), c.status, c.grpc, c.ok, c.err, fmt.Sprintf(format, args...)))
	}
}

// records are what the hub has of one call.
type records struct{ source, destination []*topologyv1.Record }

// tell puts every record into words, for whoever has to find out where one too
// many came from.
func (r records) tell() string {
	var b strings.Builder
	for _, one := range append(slices.Clone(r.source), r.destination...) {
		fmt.Fprintf(&b, "\n  %s %s request %q trace %s span %s of %q: %s %s %s %d %q at %s", one.Reporter, one.Protocol, one.RequestID, one.TraceID, one.SpanID,
			one.ParentSpanID, one.Method, one.Host, one.Path, one.Code, one.Flags, time.Unix(0, one.StartUnixNano).Format("15:04:05.000"))
	}
	return b.String()
}

// verify holds every call against the application's and the hub's knowledge.
func verify(m *mesh, calls []call, all []disturbance) (map[string]*verdict, error) {
	seen, err := readSeen(m.app.seen)
	if err != nil {
		return nil, err
	}
	found, err := lookUp(m.hub["http"], calls)
	if err != nil {
		return nil, err
	}
	out := make(map[string]*verdict)
	for i := range calls {
		c := &calls[i]
		v := out[c.kind]
		if v == nil {
			v = &verdict{flags: map[string]int{}}
			out[c.kind] = v
		}
		v.check(c, found[i], seen[c.id], owed(c, all))
	}
	return out, nil
}

// check applies the rules to one call.
func (v *verdict) check(c *call, r records, seen int, owed bool) {
	v.sent++
	switch {
	case c.left:
		v.left++
	case c.ok:
		v.answered++
	default:
		v.failed++
	}
	if took := c.ended.Sub(c.began); !c.ok && !c.left && took > hungAfter {
		v.hung = append(v.hung, fmt.Sprintf("%s %s began %s, failed after %s with %d/%d %q", c.kind, c.id, c.began.Format("15:04:05.000"), took.Round(time.Millisecond), c.status, c.grpc, c.err))
	}
	if c.ok && seen == 0 {
		v.fault(c, "answered, and the application never saw it")
	}
	if !c.ok && !c.left && !owed {
		v.fault(c, "failed while the application ran")
	}
	if c.kind == "tcp" { // its records have no ID: they are counted
		if seen > 1 {
			v.fault(c, "the application saw it %d times", seen)
		}
		return
	}
	v.source, v.destination = v.source+len(r.source), v.destination+len(r.destination)
	if len(r.source) == 0 && seen == 0 && c.kind == "grpc leave" {
		return // its time was over before gRPC's client had sent it
	}
	if len(r.source) != 1 {
		v.fault(c, "%d records of the caller's sidecar%s", len(r.source), r.tell())
		return
	}
	s := r.source[0]
	attempts := int(s.Attempts)
	for _, d := range r.destination {
		attempts += int(d.Attempts) - 1
	}
	v.retried += max(attempts-1, 0)
	if seen > 1 {
		v.again++
		if attempts < seen || c.method != http.MethodGet && c.grpc < 0 {
			v.fault(c, "the application saw it %d times in %d attempts", seen, attempts)
		}
	}
	if len(r.destination) > int(s.Attempts) {
		v.fault(c, "%d records of the callee's sidecar for %d attempts", len(r.destination), s.Attempts)
	}
	if len(r.destination) == 0 && c.ok && c.kind != "connect" {
		v.fault(c, "no record of the callee's sidecar")
	}
	v.compare(c, s, r)
}

// compare holds the record's status against the client's.
func (v *verdict) compare(c *call, s *topologyv1.Record, r records) {
	flags := flagsOf(s)
	for _, d := range r.destination {
		if f := flagsOf(d); flags == "" {
			flags = f
		}
	}
	if !c.ok && !c.left {
		if flags == "" {
			flags = "none"
		}
		v.flags[flags]++
		if flags == "none" && !tunnel(c) {
			v.fault(c, "failed without a flag: code %d grpc %q detail %q", s.Code, s.GRPCStatus, s.Detail)
		}
	}
	if c.left {
		return
	}
	if c.ok && flagsOf(s) != "" {
		v.fault(c, "answered, but the record has the flag %s (%s)", s.Flags, s.Detail)
	}
	if c.grpc >= 0 {
		if s.GRPCStatus != strconv.Itoa(c.grpc) && !(c.grpc != 0 && s.GRPCStatus != "0" && flags != "none") {
			v.fault(c, "the record has gRPC status %q, code %d, flags %q, detail %q", s.GRPCStatus, s.Code, s.Flags, s.Detail)
		}
		return
	}
	if int(s.Code) != c.status {
		v.fault(c, "the record has code %d, flags %q, detail %q", s.Code, s.Flags, s.Detail)
	}
}

// tunnel: the end of an opaque connection is no failure that could be told from
// a wanted one.
func tunnel(c *call) bool { return c.kind == "websocket" || c.kind == "connect" }

func flagsOf(r *topologyv1.Record) string {
	if r.Flags == vocab.NoFlags {
		return ""
	}
	return r.Flags
}

// lookUp asks the hub for every call by its ID.
func lookUp(hub string, calls []call) ([]records, error) {
	out := make([]records, len(calls))
	errs := make([]error, 4)
	var all sync.WaitGroup
	for w := range errs {
		all.Go(func() {
			for i := w; i < len(calls) && errs[w] == nil; i += len(errs) {
				if calls[i].kind == "tcp" {
					continue
				}
				var t topologyv1.Trace
				err := scrape.JSON(context.Background(), "http://"+hub+"/api/mesh/v1/requests/"+url.PathEscape(calls[i].id)+"?detail=no", &t)
				if err != nil && !errors.Is(err, scrape.ErrNotFound) {
					errs[w] = err
				}
				for _, h := range t.Hops {
					if h.Client != nil {
						out[i].source = append(out[i].source, h.Client)
					}
					if h.Server != nil {
						out[i].destination = append(out[i].destination, h.Server)
					}
				}
			}
		})
	}
	all.Wait()
	return out, errors.Join(errs...)
}

// readSeen counts how often the application saw each ID.
func readSeen(file string) (map[string]int, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	seen := make(map[string]int)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		seen[strings.TrimSpace(lines.Text())]++
	}
	return seen, lines.Err()
}

// edges are the counts of one reporter at its sidecar and at the hub.
type edges struct {
	reporter, metric string
	sidecar, hub     float64
}

// countEdges waits until the hub has what the sidecars counted, and returns
// their requests and opaque connections.
func countEdges(ctx context.Context, m *mesh) (all []edges, err error) {
	for range 60 {
		if all, err = readEdges(ctx, m); err != nil {
			return nil, err
		}
		same := true
		for _, e := range all {
			same = same && e.sidecar == e.hub && e.sidecar > 0
		}
		if same {
			return all, nil
		}
		time.Sleep(250 * time.Millisecond)
	}
	return all, nil
}

func readEdges(ctx context.Context, m *mesh) ([]edges, error) {
	hub, err := scrape.Get(ctx, "http://"+m.hub["http"])
	if err != nil {
		return nil, err
	}
	var all []edges
	for _, s := range []*sidecar{m.caller, m.callee} {
		own, err := scrape.Get(ctx, "http://"+s.address["admin"])
		if err != nil {
			return nil, err
		}
		reporter := map[string]string{vocab.LabelReporter: vocab.ReporterSource}
		if s == m.callee {
			reporter[vocab.LabelReporter] = vocab.ReporterDestination
		}
		for _, metric := range []string{vocab.MetricRequests, vocab.MetricTCPOpened, vocab.MetricTCPClosed} {
			all = append(all, edges{reporter[vocab.LabelReporter], metric, own.Sum(metric, reporter), hub.Sum(metric, reporter)})
		}
	}
	return all, nil
}
