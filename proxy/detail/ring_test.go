package detail

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
)

// lines is a head as it came over HTTP/1.
type lines struct {
	exchange.Fields
	raw string
}

func (l *lines) AppendHead(dst []byte, most int) ([]byte, exchange.HeadForm, bool) {
	n := min(len(l.raw), most)
	return append(dst, l.raw[:n]...), exchange.HeadLines, n == len(l.raw)
}

// request number n, of a trace of its own.
func request(n int) *exchange.Exchange {
	x := &exchange.Exchange{
		Direction: exchange.Inbound, Shard: uint8(n % 3),
		Request:  &lines{raw: fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: a\r\nAuthorization: Basic c2VjcmV0\r\n\r\n", n)},
		Response: &lines{raw: "HTTP/1.1 200 OK\r\nSet-Cookie: id=secret\r\nServer: a\r\n\r\n"},
		Decision: exchange.Decision{Verdict: vocab.VerdictThrottled, Policy: "default/limit", Rule: "all", Duration: 3 * time.Microsecond},
	}
	x.Record.TraceID, x.Record.SpanID = traceOf(n), [8]byte{1, byte(n)}
	x.Record.Start, x.Record.Duration, x.Record.FirstByte = time.Unix(int64(n), 0), 2*time.Second, time.Second
	x.Tried(exchange.Try{Upstream: "10.0.0.1:80", Duration: time.Millisecond, Failure: exchange.ConnectFailure, Detail: "connection_failure"})
	x.Tried(exchange.Try{Upstream: "10.0.0.2:80", Start: time.Millisecond, Connect: 5, FirstByte: time.Second, Duration: time.Second, Status: 200, GRPC: 6})
	return x
}

func traceOf(n int) (t [16]byte) {
	t[0], t[1], t[2] = byte(n>>16), byte(n>>8), byte(n)
	return t
}

func order(n int) []*telemetryv1.Order {
	t := traceOf(n)
	return []*telemetryv1.Order{{Id: uint64(n), TraceId: t[:]}}
}

func TestAnOrderBringsWhatTheRingHas(t *testing.T) {
	d := New(Options{Bytes: MinBytes, Now: func() time.Time { return time.Unix(1000, 0) }})
	for n := range 10 {
		d.Keep(request(n), "", nil)
	}
	d.Order(append(order(7), order(99)...))
	details, answers, more := d.Take()
	if len(details) != 1 || len(answers) != 2 || more {
		t.Fatalf("%d details, %d answers, more %v", len(details), len(answers), more)
	}
	got := details[0]
	if want := traceOf(7); [16]byte(got.GetTraceId()) != want || got.GetSpanId()[1] != 7 || got.GetReporter() != telemetryv1.Reporter_REPORTER_DESTINATION {
		t.Errorf("detail of trace %x span %x reporter %v", got.GetTraceId(), got.GetSpanId(), got.GetReporter())
	}
	if got.GetTrigger() != vocab.TriggerOrder || got.GetStartUnixNano() != 7e9 || got.GetDurationNanos() != 2e9 || got.GetFirstByteNanos() != 1e9 {
		t.Errorf("trigger %q, times %d %d %d", got.GetTrigger(), got.GetStartUnixNano(), got.GetDurationNanos(), got.GetFirstByteNanos())
	}
	if r := got.GetRequest(); r.GetLine() != "GET /7 HTTP/1.1" || len(r.GetFields()) != 2 || r.GetFields()[1].GetValue() != "[redacted, 14 bytes]" {
		t.Errorf("request %v", r)
	}
	if r := got.GetResponse(); len(r.GetFields()) != 2 || !r.GetFields()[0].GetRedacted() || r.GetFields()[1].GetValue() != "a" {
		t.Errorf("response %v", r)
	}
	if got.GetTrailers() != nil {
		t.Errorf("trailers %v of an answer that had none", got.GetTrailers())
	}
	a := got.GetAttempts()
	if len(a) != 2 || a[0].GetResult() != "connect_failure" || a[0].GetDetail() != "connection_failure" || a[1].GetStatus() != 200 ||
		a[1].GetGrpcStatus() != "5" || a[1].GetConnectNanos() != 5 || a[1].GetStartNanos() != 1e6 || a[1].GetUpstream() != "10.0.0.2:80" {
		t.Errorf("attempts %v", a)
	}
	if p := got.GetDecisions(); len(p) != 1 || p[0].GetPolicy() != "default/limit" || p[0].GetRule() != "all" || p[0].GetDurationNanos() != 3000 {
		t.Errorf("decisions %v", p)
	}
	if answers[0].GetFound() != 1 || answers[1].GetFound() != 0 || answers[1].GetReason() != vocab.NoDetailNotInRing {
		t.Errorf("answers %v", answers)
	}
	if details, answers, _ := d.Take(); len(details)+len(answers) > 0 {
		t.Error("what was taken is there again")
	}
}

func TestAnOrderWithoutATraceBringsNothing(t *testing.T) {
	d := New(Options{Bytes: MinBytes})
	x := request(1)
	x.Record.TraceID = [16]byte{}
	d.Keep(x, "", nil)
	d.Order([]*telemetryv1.Order{{Id: 1}, {Id: 2, TraceId: make([]byte, 16)}, {Id: 3, TraceId: make([]byte, 15)}})
	if details, answers, _ := d.Take(); len(details) != 0 || len(answers) != 3 {
		t.Errorf("details %v, answers %v", details, answers)
	}
}

func TestAnOrderOfOneSpanBringsThatOne(t *testing.T) {
	d := New(Options{Bytes: MinBytes})
	x := request(1)
	d.Keep(x, "", nil)
	x.Record.SpanID = [8]byte{9}
	d.Keep(x, "", nil)
	o := order(1)
	o[0].SpanId = []byte{9, 0, 0, 0, 0, 0, 0, 0}
	d.Order(o)
	if details, _, _ := d.Take(); len(details) != 1 || details[0].GetSpanId()[0] != 9 {
		t.Errorf("details %v", details)
	}
	d.Order(order(1))
	if details, _, _ := d.Take(); len(details) != 2 {
		t.Errorf("%d details of the whole trace, want 2", len(details))
	}
}

func TestTheRingKeepsTheNewestInItsBytes(t *testing.T) {
	now := time.Unix(1, 0)
	d := New(Options{Bytes: MinBytes, Now: func() time.Time { return now }})
	const n = 20_000
	for i := range n {
		d.Keep(request(i), "", nil)
	}
	now = time.Unix(n+1, 0)
	if d.ring.made*blockBytes > MinBytes {
		t.Errorf("%d blocks are more than %d bytes", d.ring.made, MinBytes)
	}
	horizon := int(d.Horizon().Seconds())
	if horizon < 100 || horizon > n/2 {
		t.Fatalf("the ring reaches %d requests back of %d", horizon, n)
	}
	// All that the horizon promises, and not the oldest.
	for i := n - horizon + 1; i < n; i += 97 {
		d.Order(order(i))
		if _, answers, _ := d.Take(); answers[0].GetFound() != 1 {
			t.Fatalf("request %d is within %d of %d and was not found", i, horizon, n)
		}
	}
	d.Order(order(0))
	if _, answers, _ := d.Take(); answers[0].GetReason() != vocab.NoDetailNotInRing || time.Duration(answers[0].GetHorizonNanos()) != d.Horizon() {
		t.Errorf("the first request: %v", answers[0])
	}
}

func TestARingThatIsOffSaysSo(t *testing.T) {
	d := New(Options{})
	d.Keep(request(1), vocab.TriggerError, new(Share))
	d.Order(order(1))
	details, answers, _ := d.Take()
	if len(details) != 0 || len(answers) != 1 || answers[0].GetReason() != vocab.NoDetailRingOff {
		t.Errorf("details %v, answers %v", details, answers)
	}
}

func TestALongHeadIsCutAndItsSecretsWithIt(t *testing.T) {
	d := New(Options{Bytes: MinBytes})
	x := request(1)
	x.Request = &lines{raw: "GET / HTTP/1.1\r\nA: b\r\nCookie: " + strings.Repeat("secret", maxHead) + "\r\n\r\n"}
	d.Keep(x, "", nil)
	d.Order(order(1))
	details, _, _ := d.Take()
	h := details[0].GetRequest()
	if !h.GetTruncated() || len(h.GetFields()) != 2 || strings.Contains(h.String(), "secret") {
		t.Errorf("head %v", h)
	}
}

func TestATriggerSendsWithinTheEdgesShare(t *testing.T) {
	d := New(Options{Bytes: MinBytes})
	var noisy, quiet Share
	for i := range 5000 {
		d.Keep(request(i), vocab.TriggerError, &noisy)
	}
	d.Keep(request(5001), vocab.TriggerRetry, &quiet)
	if d.Left()[vocab.NoDetailEdgeBudget] == 0 {
		t.Error("nothing was left of a flood")
	}
	sent, last := 0, ""
	for more := true; more; {
		var details []*telemetryv1.Detail
		details, _, more = d.Take()
		if len(details) > batchDetails {
			t.Errorf("%d details in a batch", len(details))
		}
		sent += len(details)
		if len(details) > 0 {
			last = details[len(details)-1].GetTrigger()
		}
	}
	if last != vocab.TriggerRetry {
		t.Errorf("the quiet edge's detail is not the last one sent: %q", last)
	}
	if left := d.Left()[vocab.NoDetailEdgeBudget]; uint64(sent)+left != 5001 {
		t.Errorf("%d sent and %d left of 5001", sent, left)
	}
	if got := d.Sent(); got[vocab.TriggerError] == 0 || got[vocab.TriggerRetry] != 1 {
		t.Errorf("sent %v", got)
	}
}

func TestSlowRequestsLeaveHalfOfTheShare(t *testing.T) {
	b := budget{began: time.Now()}
	var s Share
	n := 0
	for b.admit(&s, vocab.TriggerSlow, 1<<10) == "" {
		n++
	}
	if reason := b.admit(&s, vocab.TriggerError, edgeBurst/2-2<<10); reason != "" {
		t.Errorf("after %d slow ones an error is refused: %s", n, reason)
	}
}

func TestAllEdgesTogetherAreBounded(t *testing.T) {
	b := budget{began: time.Now()}
	for range allBurst / edgeBurst * 2 {
		var s Share
		if reason := b.admit(&s, vocab.TriggerError, edgeBurst-1<<10); reason == vocab.NoDetailAllBudget {
			return
		} else if reason != "" {
			t.Fatal(reason)
		}
	}
	t.Error("no end to what all edges may send")
}

func TestTheQueueIsBounded(t *testing.T) {
	d := New(Options{Bytes: MinBytes})
	x := request(1)
	x.Request = &lines{raw: "GET / HTTP/1.1\r\nA: " + strings.Repeat("b", maxHead-30) + "\r\n\r\n"}
	for range 200 { // in orders, whose budget is as large as the queue
		d.enqueue(queued{d.ring.push(x, true), vocab.TriggerOrder})
	}
	if d.bytes > maxQueued || d.Left()[vocab.NoDetailQueueFull] == 0 {
		t.Errorf("%d bytes wait, %v", d.bytes, d.Left())
	}
}

func TestRequestsAndOrdersMeet(t *testing.T) {
	d := New(Options{Bytes: MinBytes})
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			var share Share
			for i := range 5000 {
				x := request(w*5000 + i)
				x.Shard = uint8(w)
				trigger := ""
				if i%50 == 0 {
					trigger = vocab.TriggerError
				}
				d.Keep(x, trigger, &share)
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		default:
		}
		d.Order(order(i * 37 % 20_000))
		details, _, _ := d.Take()
		for _, one := range details {
			if len(one.GetAttempts()) != 2 || len(one.GetRequest().GetFields()) != 2 {
				t.Fatalf("torn: %v", one)
			}
		}
		d.Horizon()
	}
}

func TestKeepAllocatesNothing(t *testing.T) {
	d := New(Options{Bytes: MinBytes})
	x := request(1)
	for range 20_000 {
		d.Keep(x, "", nil)
	}
	if n := testing.AllocsPerRun(5000, func() { d.Keep(x, "", nil) }); n != 0 {
		t.Errorf("Keep: %v allocs, want 0", n)
	}
}

// BenchmarkKeep is what the ring costs a request: 0.6 KiB of heads, as HTTP/1 has
// them and as HTTP/2's eighteen fields.
func BenchmarkKeep(b *testing.B) {
	list := new(exchange.Fields)
	for i := range 9 {
		list.Add(fmt.Sprintf("accept-language-%d", i), "en-GB,en;q=0.9")
	}
	for name, h := range map[string]exchange.Header{
		"lines": &lines{raw: strings.Repeat("accept-language: en-GB,en;q=0.9\r\n", 9)}, "list": list,
	} {
		b.Run(name, func(b *testing.B) {
			d := New(Options{Bytes: 4 << 20})
			x := &exchange.Exchange{Request: h, Response: h}
			x.Record.Start = time.Now()
			x.Tried(exchange.Try{Upstream: "10.0.0.1:9080", Duration: time.Millisecond, Status: 200})
			b.ReportAllocs()
			for b.Loop() {
				d.Keep(x, "", nil)
			}
		})
	}
}

// BenchmarkOrder is a look through a full ring of 4 MiB.
func BenchmarkOrder(b *testing.B) {
	d := New(Options{Bytes: 4 << 20})
	for i := range 30_000 {
		d.Keep(request(i), "", nil)
	}
	for b.Loop() {
		d.Order(order(1))
		d.Take()
	}
}
