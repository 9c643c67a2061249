package propagation

import (
	"strings"
	"testing"

	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
)

// fields is a header map with lower-case names.
type fields map[string]string

func (f fields) At(name string, i int) (string, bool) {
	value := f.Get(name)
	return value, i == 0 && value != ""
}

func (f fields) Get(name string) string { return f[strings.ToLower(name)] }
func (f fields) Set(name, value string) { f[strings.ToLower(name)] = value }
func (f fields) Add(name, value string) { f.Set(name, value) }
func (f fields) Del(name string)        { delete(f, strings.ToLower(name)) }

func (fields) AppendHead(dst []byte, _ int) ([]byte, exchange.HeadForm, bool) {
	return dst, exchange.NoHead, true
}

func stamp(h fields) *exchange.Exchange {
	x := &exchange.Exchange{Request: h}
	Stamp(x)
	return x
}

const (
	parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	uuid   = "3d1f6c80-6a0e-4c0a-9f0e-0123456789ab"
)

func TestARequestWithoutIDsGetsOneIDInTwoForms(t *testing.T) {
	h := fields{}
	x := stamp(h)
	p, ok := ids.ParseTraceparent(h.Get(vocab.HeaderTraceparent))
	if !ok || p.TraceID.UUID() != h.Get(vocab.HeaderRequestID) {
		t.Errorf("headers %v: the request ID is not the trace ID", h)
	}
	if x.Record.RequestID != "" {
		t.Errorf("record repeats the request ID %q", x.Record.RequestID)
	}
	if x.Record.ParentSpanID != [8]byte{} {
		t.Error("a root has a parent")
	}
}

func TestATraceIsContinued(t *testing.T) {
	h := fields{vocab.HeaderTraceparent: parent, vocab.HeaderTracestate: "a=b", vocab.HeaderRequestID: uuid}
	x := stamp(h)
	p, _ := ids.ParseTraceparent(h.Get(vocab.HeaderTraceparent))
	if p.TraceID.String() != "0af7651916cd43dd8448eb211c80319c" || p.SpanID != x.Record.SpanID {
		t.Errorf("traceparent = %v", p)
	}
	if ids.SpanID(x.Record.ParentSpanID).String() != "b7ad6b7169203331" {
		t.Errorf("parent = %x", x.Record.ParentSpanID)
	}
	if h.Get(vocab.HeaderTracestate) != "a=b" {
		t.Error("tracestate is lost")
	}
	if RequestID(x) != uuid || h.Get(vocab.HeaderRequestID) != uuid {
		t.Errorf("request ID = %s, header %s", RequestID(x), h.Get(vocab.HeaderRequestID))
	}
}

func TestARequestIDThatIsAUUIDBecomesTheTraceID(t *testing.T) {
	x := stamp(fields{vocab.HeaderRequestID: uuid})
	if got := ids.TraceID(x.Record.TraceID).UUID(); got != uuid {
		t.Errorf("trace ID %s, want %s", got, uuid)
	}
}

func TestAForeignRequestIDIsKeptAndRecorded(t *testing.T) {
	h := fields{vocab.HeaderRequestID: "order-42"}
	if x := stamp(h); x.Record.RequestID != "order-42" || h.Get(vocab.HeaderRequestID) != "order-42" {
		t.Errorf("request ID = %q, header %q", x.Record.RequestID, h.Get(vocab.HeaderRequestID))
	}
}

func TestAnUnusableRequestIDIsReplaced(t *testing.T) {
	for _, bad := range []string{"a b", "a\nb", strings.Repeat("x", maxRequestID+1)} {
		h := fields{vocab.HeaderRequestID: bad}
		if stamp(h); h.Get(vocab.HeaderRequestID) == bad {
			t.Errorf("request ID %.20q went on", bad)
		}
	}
}

func TestAnInvalidTraceparentStartsANewTrace(t *testing.T) {
	h := fields{vocab.HeaderTraceparent: "00-xyz", vocab.HeaderTracestate: "a=b"}
	x := stamp(h)
	if x.Record.ParentSpanID != [8]byte{} || h.Get(vocab.HeaderTracestate) != "" {
		t.Errorf("parent %x, tracestate %q", x.Record.ParentSpanID, h.Get(vocab.HeaderTracestate))
	}
}
