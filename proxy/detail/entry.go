package detail

import (
	"encoding/binary"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/proxy/exchange"
)

const (
	// maxHead is what is kept of one head.
	maxHead = 8 << 10
	// maxText bounds the texts of attempts and decisions.
	maxText = 512
	// entryHead is the part of an entry that all have; see appendEntry.
	entryHead = 80
	// tryHead is the part of an attempt that all have.
	tryHead = 40
)

// Offsets in an entry's head. All numbers are little-endian.
const (
	atSize      = 0  // of the whole entry, 4 bytes
	atTrace     = 4  // 16
	atSpan      = 20 // 8
	atStart     = 28 // Unix nanoseconds, 8
	atDuration  = 36 // nanoseconds, 8, as the next two
	atFirstByte = 44
	atPolicy    = 52
	atHeads     = 60 // request, response, trailers: length and form, 4 bytes each
	atReporter  = 72
	atTries     = 73
	atVerdict   = 74 // length of the text, 2, as the next two
	atPolicyID  = 76
	atRule      = 78
)

// A head's length and form are one number: the length in the lower bits.
const (
	formShift = 24
	formCut   = 0x80 // the head is not whole
)

// appendEntry writes what is to be kept of an exchange behind dst, if it fits
// into dst's capacity:
//
//	head  request response trailers  verdict policy rule  try*
func appendEntry(dst []byte, x *exchange.Exchange) (out []byte, fits bool) {
	at := len(dst)
	tail := tailBytes(x)
	if cap(dst)-at < entryHead+tail {
		return dst, false
	}
	out = dst[:at+entryHead]
	r := &x.Record
	e := out[at:]
	copy(e[atTrace:], r.TraceID[:])
	copy(e[atSpan:], r.SpanID[:])
	put64(e[atStart:], uint64(r.Start.UnixNano()))
	put64(e[atDuration:], uint64(r.Duration))
	put64(e[atFirstByte:], uint64(r.FirstByte))
	put64(e[atPolicy:], uint64(x.Decision.Duration))
	put64(e[atReporter:], 0) // and all that follows
	e[atReporter] = byte(telemetryv1.Reporter_REPORTER_SOURCE)
	if x.Direction == exchange.Inbound {
		e[atReporter] = byte(telemetryv1.Reporter_REPORTER_DESTINATION)
	}
	e[atTries] = byte(len(x.Tries))
	if out, fits = appendHead(out, e[atHeads:], x.Request, tail); !fits {
		return dst, false
	}
	if out, fits = appendHead(out, e[atHeads+4:], x.Response, tail); !fits {
		return dst, false
	}
	if out, fits = appendHead(out, e[atHeads+8:], x.Trailers, tail); !fits {
		return dst, false
	}
	if d := &x.Decision; d.Verdict != "" {
		out = appendText(out, e[atVerdict:], d.Verdict)
		out = appendText(out, e[atPolicyID:], d.Policy)
		out = appendText(out, e[atRule:], d.Rule)
	}
	for i := range x.Tries {
		out = appendTry(out, &x.Tries[i])
	}
	binary.LittleEndian.PutUint32(e[atSize:], uint32(len(out)-at))
	return out, true
}

// tailBytes is what follows an exchange's heads.
func tailBytes(x *exchange.Exchange) int {
	n := 0
	if d := &x.Decision; d.Verdict != "" {
		n = kept(d.Verdict) + kept(d.Policy) + kept(d.Rule)
	}
	for i := range x.Tries {
		n += tryHead + kept(x.Tries[i].Upstream) + kept(x.Tries[i].Detail)
	}
	return n
}

// kept is how much of a text is.
func kept(s string) int { return min(len(s), maxText) }

// appendHead leaves room for the tail.
func appendHead(dst, note []byte, h exchange.Header, tail int) (out []byte, fits bool) {
	if h == nil {
		binary.LittleEndian.PutUint32(note, 0)
		return dst, true
	}
	most := min(maxHead, cap(dst)-len(dst)-tail)
	out, form, whole := h.AppendHead(dst, most)
	if !whole && most < maxHead {
		return dst, false
	}
	n := uint32(len(out)-len(dst)) | uint32(form)<<formShift
	if !whole {
		n |= formCut << formShift
	}
	binary.LittleEndian.PutUint32(note, n)
	return out, true
}

func appendText(dst, note []byte, s string) []byte {
	s = s[:kept(s)]
	binary.LittleEndian.PutUint16(note, uint16(len(s)))
	return append(dst, s...)
}

func appendTry(dst []byte, t *exchange.Try) []byte {
	at := len(dst)
	dst = dst[:at+tryHead]
	e := dst[at:]
	put64(e, uint64(t.Start))
	put64(e[8:], uint64(t.Connect))
	put64(e[16:], uint64(t.FirstByte))
	put64(e[24:], uint64(t.Duration))
	binary.LittleEndian.PutUint16(e[32:], t.Status)
	e[34], e[35] = t.GRPC, byte(t.Failure)
	dst = appendText(dst, e[36:], t.Upstream)
	return appendText(dst, e[38:], t.Detail)
}

func put64(b []byte, v uint64) { binary.LittleEndian.PutUint64(b, v) }

// entry is one request in the ring's memory, as appendEntry wrote it.
type entry []byte

// firstEntry is the one in front of b, nil if there is none.
func firstEntry(b []byte) entry {
	if len(b) < entryHead {
		return nil
	}
	return b[:binary.LittleEndian.Uint32(b)]
}

func (e entry) is(trace [16]byte, span []byte) bool {
	return [16]byte(e[atTrace:]) == trace && (len(span) != 8 || [8]byte(e[atSpan:]) == [8]byte(span))
}

func (e entry) int64(at int) int64 { return int64(binary.LittleEndian.Uint64(e[at:])) }

func (e entry) uint16(at int) int { return int(binary.LittleEndian.Uint16(e[at:])) }

// detail reads the entry. What is secret is taken out of it by s.
func (e entry) detail(trigger string, s *secrets) *telemetryv1.Detail {
	d := &telemetryv1.Detail{
		TraceId: append([]byte(nil), e[atTrace:atTrace+16]...), SpanId: append([]byte(nil), e[atSpan:atSpan+8]...),
		Reporter: telemetryv1.Reporter(e[atReporter]), StartUnixNano: e.int64(atStart), Trigger: trigger,
		DurationNanos: e.int64(atDuration), FirstByteNanos: e.int64(atFirstByte), PolicyNanos: e.int64(atPolicy),
	}
	rest := e[entryHead:]
	take := func(n int) []byte {
		taken := rest[:n]
		rest = rest[n:]
		return taken
	}
	for i, to := range [...]**telemetryv1.Head{&d.Request, &d.Response, &d.Trailers} {
		note := binary.LittleEndian.Uint32(e[atHeads+4*i:])
		*to = s.head(take(int(note&(1<<formShift-1))), exchange.HeadForm(note>>formShift&^formCut), note>>formShift&formCut != 0)
	}
	verdict, policy, rule := text(take(e.uint16(atVerdict))), text(take(e.uint16(atPolicyID))), text(take(e.uint16(atRule)))
	if verdict != "" {
		d.Decisions = []*telemetryv1.PolicyDecision{{Policy: policy, Rule: rule, Verdict: verdict, DurationNanos: d.GetPolicyNanos()}}
	}
	for range e[atTries] {
		t := entry(take(tryHead))
		a := &telemetryv1.Attempt{
			StartNanos: t.int64(0), ConnectNanos: t.int64(8), FirstByteNanos: t.int64(16), DurationNanos: t.int64(24),
			Status: uint32(t.uint16(32)), Result: result(exchange.Failure(t[35])),
		}
		if t[34] > 0 {
			a.GrpcStatus = grpcText(t[34])
		}
		upstream, detail := t.uint16(36), t.uint16(38)
		a.Upstream, a.Detail = text(take(upstream)), text(take(detail))
		d.Attempts = append(d.Attempts, a)
	}
	return d
}

// results are the wire's words for how an attempt went.
var results = [...]string{
	exchange.Success: "ok", exchange.ConnectFailure: "connect_failure", exchange.Refused: "refused", exchange.Reset: "reset",
	exchange.Timeout: "timeout", exchange.ProtocolFailure: "protocol_error", exchange.Local: "local",
}

func result(f exchange.Failure) string {
	if int(f) < len(results) {
		return results[f]
	}
	return results[exchange.Local]
}
