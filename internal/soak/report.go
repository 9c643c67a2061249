package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
)

// What a sidecar may hold more at the end than at the beginning: scrapes and the
// hub's streams come and go.
const (
	moreGoroutines  = 2
	moreDescriptors = 2
	mostPipes       = 64
	moreResident    = 1.15 // of the first third's mean, and
	moreMB          = 8.0  // at least this much
)

// long is the duration from which calls that hung fail the run. They are an open
// fault of gRPC (docs/performance/soak.md), too rare for a short run to be a
// dependable test of it.
const long = 2 * time.Minute

// report prints the tables and tells whether everything is as it must be.
func (s *session) report(verdicts map[string]*verdict, counts []edges) bool {
	good := s.reportCalls(verdicts)
	good = s.reportUsage() && good
	return s.reportEdges(verdicts, counts) && good
}

func table() *tabwriter.Writer { return tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0) }

func (s *session) reportCalls(verdicts map[string]*verdict) bool {
	times := map[string]int{}
	for _, d := range s.disturbances {
		times[d.what]++
	}
	fmt.Printf("the application was killed %d times and stalled %d times, its sidecar stalled %d times\n\n", times[kill], times[stall], times[stallSidecar])
	t := table()
	fmt.Fprintln(t, "kind\tsent\tanswered\tfailed at a kill\tleft\tretries\tseen again\thung\twrong\tflags of the failed")
	var wrong []string
	var hung []string
	wrongs := 0
	for _, k := range kinds {
		v := verdicts[k.name]
		if v == nil {
			continue
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\n", k.name, v.sent, v.answered, v.failed, v.left, v.retried, v.again, len(v.hung), v.wrongs, strings.TrimPrefix(fmt.Sprint(v.flags), "map"))
		wrong, wrongs = append(wrong, v.wrong...), wrongs+v.wrongs
		hung = append(hung, v.hung...)
	}
	_ = t.Flush() // to the standard output
	for _, w := range wrong {
		fmt.Println("WRONG", w)
	}
	for _, h := range hung {
		fmt.Println("HUNG", h)
	}
	return wrongs == 0 && times[kill] > 0 && (len(hung) == 0 || s.o.duration < long)
}

func (s *session) reportUsage() bool {
	good := true
	t := table()
	fmt.Fprintln(t, "\nsidecar\tgoroutines\tdescriptors\tpipe ends\tresident, first third\tlast third\t")
	for _, one := range []*sidecar{s.mesh.caller, s.mesh.callee} {
		b, a := s.before[one.name], s.after[one.name]
		first, last := thirds(s.during[one.name])
		ok := a.goroutines <= b.goroutines+moreGoroutines && a.descriptors <= b.descriptors+moreDescriptors && a.pipes <= mostPipes &&
			last <= max(first*moreResident, first+moreMB)
		good = good && ok
		fmt.Fprintf(t, "%s\t%d -> %d\t%d -> %d\t%d -> %d\t%.1f MB\t%.1f MB\t%s\n", one.name, b.goroutines, a.goroutines, b.descriptors, a.descriptors, b.pipes, a.pipes, first, last, mark(ok))
	}
	_ = t.Flush()
	return good
}

// reportEdges holds the counts against each other and against the records that
// were found by ID. Opaque connections have none: the clients count them.
func (s *session) reportEdges(verdicts map[string]*verdict, counts []edges) bool {
	found := map[string]int{vocab.ReporterSource: s.mesh.warm, vocab.ReporterDestination: 1} // the last one arrived
	for kind, v := range verdicts {
		if kind != "connect" {
			found[vocab.ReporterSource] += v.source
			found[vocab.ReporterDestination] += v.destination
		}
	}
	good := true
	t := table()
	fmt.Fprintln(t, "\ncount\tsidecar\thub\tby ID or by clients\t")
	for _, e := range counts {
		want := found[e.reporter]
		if e.metric != vocab.MetricRequests {
			want = s.opaqueSessions()
		}
		// Of what failed the callee's sidecar need not have heard.
		ok := e.sidecar == e.hub && (int(e.hub) == want || e.metric != vocab.MetricRequests && e.reporter == vocab.ReporterDestination && int(e.hub) < want)
		good = good && ok
		fmt.Fprintf(t, "%s %s\t%.0f\t%.0f\t%d\t%s\n", e.reporter, e.metric, e.sidecar, e.hub, want, mark(ok))
	}
	_ = t.Flush()
	return good
}

// opaqueSessions is how many the clients had, by --outbound-tcp and by CONNECT.
func (s *session) opaqueSessions() (n int) {
	for i := range s.traffic.ledger.calls {
		if k := s.traffic.ledger.calls[i].kind; k == "tcp" || k == "connect" {
			n++
		}
	}
	return n
}

func mark(ok bool) string {
	if ok {
		return "ok"
	}
	return "WRONG"
}
