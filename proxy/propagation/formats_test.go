package propagation

import (
	"encoding/base64"
	"maps"
	"strings"
	"testing"

	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
)

const (
	traceHex = "463ac35c9f6413ad48485a3953bb6124"
	shortHex = "48485a3953bb6124"
	spanHex  = "a2fb4a1d1a96d312"
)

func censusText(trace, span string, options byte) string {
	var b [censusBytes]byte
	decodeHex(b[2:18], trace)
	b[18] = 1
	decodeHex(b[19:27], span)
	b[27], b[28] = 2, options
	return base64.StdEncoding.EncodeToString(b[:])
}

// b3 in several headers.
func several(pairs ...string) fields {
	h := fields{}
	for i := 0; i < len(pairs); i += 2 {
		h["x-b3-"+pairs[i]] = pairs[i+1]
	}
	return h
}

func TestEveryFormatIsContinued(t *testing.T) {
	long, short := traceHex, "0000000000000000"+shortHex
	for _, tc := range []struct {
		name    string
		head    fields
		trace   string // "" for a new one
		sampled bool
	}{
		{"b3 sampled", fields{"b3": traceHex + "-" + spanHex + "-1"}, long, true},
		{"b3 with parent", fields{"b3": traceHex + "-" + spanHex + "-1-05e3ac9a4f6e3b90"}, long, true},
		{"b3 not sampled", fields{"b3": shortHex + "-" + spanHex + "-0"}, short, false},
		{"b3 debug", fields{"b3": traceHex + "-" + spanHex + "-d"}, long, true},
		{"b3 undecided", fields{"b3": traceHex + "-" + spanHex}, long, true},
		{"b3 sampling only", fields{"b3": "0"}, "", false},
		{"b3 sampling only, yes", fields{"b3": "1"}, "", true},
		{"b3 upper case", fields{"b3": strings.ToUpper(traceHex) + "-" + spanHex}, long, true},
		{"b3 of 31 digits", fields{"b3": traceHex[1:] + "-" + spanHex + "-1"}, "", true},
		{"b3 of zeros", fields{"b3": strings.Repeat("0", 32) + "-" + spanHex + "-0"}, "", true},
		{"b3 without span", fields{"b3": traceHex}, "", true},
		{"b3 with a bad parent", fields{"b3": traceHex + "-" + spanHex + "-0-x"}, "", true},
		{"b3 with a bad decision", fields{"b3": traceHex + "-" + spanHex + "-x"}, "", true},
		{"x-b3", several("traceid", traceHex, "spanid", spanHex, "sampled", "0"), long, false},
		{"x-b3 of 64 bits", several("traceid", shortHex, "spanid", spanHex, "sampled", "true"), short, true},
		{"x-b3 debug", several("traceid", shortHex, "spanid", spanHex, "flags", "1"), short, true},
		{"x-b3 sampling only", several("sampled", "0"), "", false},
		{"x-b3 without span", several("traceid", traceHex, "sampled", "0"), "", false},
		{"uber", fields{"uber-trace-id": traceHex + ":" + spanHex + ":0:1"}, long, true},
		{"uber without leading zeros", fields{"uber-trace-id": "5a3953bb6124:1a96d312:0:0"}, "00000000000000000000" + "5a3953bb6124", false},
		{"uber percent-encoded", fields{"uber-trace-id": traceHex + "%3A" + spanHex + "%3a0%3A3"}, long, true},
		{"uber with a bad span", fields{"uber-trace-id": traceHex + ":x:0:1"}, "", true},
		{"uber without flags", fields{"uber-trace-id": traceHex + ":" + spanHex + ":0"}, "", true},
		{"uber too long", fields{"uber-trace-id": "1" + traceHex + ":" + spanHex + ":0:1"}, "", true},
		{"census", fields{"grpc-trace-bin": censusText(traceHex, spanHex, 1)}, long, true},
		{"census not sampled, unpadded", fields{"grpc-trace-bin": strings.TrimRight(censusText(traceHex, spanHex, 0), "=")}, long, false},
		{"census twice", fields{"grpc-trace-bin": censusText(traceHex, spanHex, 0) + "," + censusText(traceHex, spanHex, 1)}, long, false},
		{"census of zeros", fields{"grpc-trace-bin": censusText("0", spanHex, 0)}, "", true},
		{"census garbage", fields{"grpc-trace-bin": "!!!"}, "", true},
		{"census too long", fields{"grpc-trace-bin": strings.Repeat("A", 200)}, "", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := maps.Clone(tc.head)
			h[vocab.HeaderTracestate] = "a=b" // without a traceparent it says nothing
			x := stamp(h)
			if x.Record.Sampled != tc.sampled {
				t.Errorf("sampled %v, want %v", x.Record.Sampled, tc.sampled)
			}
			if got := ids.TraceID(x.Record.TraceID).String(); tc.trace != "" && got != tc.trace {
				t.Errorf("trace %s, want %s", got, tc.trace)
			}
			if root := x.Record.ParentSpanID == [8]byte{}; root != (tc.trace == "") {
				t.Errorf("parent %x", x.Record.ParentSpanID)
			}
			if h.Get(vocab.HeaderTracestate) != "" || x.Record.Attributes != nil {
				t.Errorf("head %v, attributes %v", h, x.Record.Attributes)
			}
			// Whatever came is in step: each form alone names the same span.
			for name := range tc.head {
				if strings.HasPrefix(name, "x-b3") {
					name = "x-b3"
				}
				sameSpan(t, x, h, name)
			}
			sameSpan(t, x, h, "traceparent")
		})
	}
}

// sameSpan reads one format of the head that goes on.
func sameSpan(t *testing.T, x *exchange.Exchange, h fields, format string) {
	t.Helper()
	alone := fields{}
	for name, v := range h {
		if name == format || format == "x-b3" && strings.HasPrefix(name, "x-b3-") {
			alone[name] = v
		}
	}
	var came [formats]carried
	readAll(alone, &came)
	for i := range came {
		if formatNames[i] != format {
			continue
		}
		c := came[i]
		if !c.valid || c.trace != x.Record.TraceID || c.span != x.Record.SpanID || !c.decided || c.sampled != x.Record.Sampled {
			t.Errorf("%s goes on as %v, record has trace %x span %x sampled %v", format, alone, x.Record.TraceID, x.Record.SpanID, x.Record.Sampled)
		}
	}
}

func TestFormsAreWrittenAsTheyCame(t *testing.T) {
	h := fields{"b3": shortHex + "-" + spanHex + "-d"}
	x := stamp(h)
	span := ids.SpanID(x.Record.SpanID).String()
	if want := shortHex + "-" + span + "-d-" + spanHex; h["b3"] != want {
		t.Errorf("b3: %s, want %s", h["b3"], want)
	}
	h = several("traceid", shortHex, "spanid", spanHex, "flags", "1", "parentspanid", "1111111111111111")
	x = stamp(h)
	span = ids.SpanID(x.Record.SpanID).String()
	if h["x-b3-traceid"] != shortHex || h["x-b3-spanid"] != span || h["x-b3-parentspanid"] != spanHex || h["x-b3-flags"] != "1" || h["x-b3-sampled"] != "" {
		t.Errorf("x-b3: %v", h)
	}
	h = fields{"uber-trace-id": traceHex + ":" + spanHex + ":0:b"}
	x = stamp(h)
	span = ids.SpanID(x.Record.SpanID).String()
	if want := traceHex + ":" + span + ":" + spanHex + ":b"; h["uber-trace-id"] != want {
		t.Errorf("uber-trace-id: %s, want %s", h["uber-trace-id"], want)
	}
	h = fields{"grpc-trace-bin": censusText(traceHex, spanHex, 1)}
	x = stamp(h)
	span = ids.SpanID(x.Record.SpanID).String()
	if want := strings.TrimRight(censusText(traceHex, span, 1), "="); h["grpc-trace-bin"] != want {
		t.Errorf("grpc-trace-bin: %s, want %s", h["grpc-trace-bin"], want)
	}
}

func TestTheFirstOfSeveralWins(t *testing.T) {
	h := several("traceid", shortHex, "spanid", spanHex, "sampled", "0")
	h["traceparent"] = parent
	h["tracestate"] = "a=b"
	h["b3"] = "zzz"
	h["uber-trace-id"] = "0af7651916cd43dd8448eb211c80319c:1:0:0"
	x := stamp(h)
	if got := ids.TraceID(x.Record.TraceID).String(); got != "0af7651916cd43dd8448eb211c80319c" || !x.Record.Sampled {
		t.Errorf("trace %s, sampled %v", got, x.Record.Sampled)
	}
	if h["tracestate"] != "a=b" {
		t.Error("tracestate is lost")
	}
	if got, want := x.Record.Attributes[ConflictAttribute], "x-b3=0000000000000000"+shortHex; got != want {
		t.Errorf("noted %q, want %q", got, want)
	}
	for _, format := range []string{"traceparent", "b3", "x-b3", "uber-trace-id"} {
		sameSpan(t, x, h, format)
	}
	// A 64-bit form of the same trace is no conflict.
	h = fields{"traceparent": parent, "b3": "8448eb211c80319c-" + spanHex + "-1"}
	if x = stamp(h); x.Record.Attributes != nil {
		t.Errorf("noted %v", x.Record.Attributes)
	}
	// An invalid traceparent gives way to what is valid.
	h = fields{"traceparent": "00-zz", "b3": traceHex + "-" + spanHex}
	if x = stamp(h); ids.TraceID(x.Record.TraceID).String() != traceHex {
		t.Errorf("trace %x", x.Record.TraceID)
	}
}

func TestRequestIDIsTheHeader(t *testing.T) {
	for _, h := range []fields{{}, {vocab.HeaderRequestID: "order-42"}, {vocab.HeaderRequestID: uuid}, {vocab.HeaderTraceparent: parent}} {
		x := stamp(h)
		if got := RequestID(x); got != h.Get(vocab.HeaderRequestID) {
			t.Errorf("RequestID = %s, header %s", got, h.Get(vocab.HeaderRequestID))
		}
	}
}

// slots is a head that keeps views and allocates nothing.
type slots struct {
	names, values [16]string
}

func (s *slots) Get(name string) string {
	for i, n := range s.names {
		if n == name {
			return s.values[i]
		}
	}
	return ""
}

func (s *slots) At(name string, i int) (string, bool) {
	value := s.Get(name)
	return value, i == 0 && value != ""
}

func (s *slots) Set(name, value string) {
	for i, n := range s.names {
		if n == name || n == "" {
			s.names[i], s.values[i] = name, value
			return
		}
	}
}

func (s *slots) Add(name, value string) { s.Set(name, value) }

func (s *slots) Del(name string) { s.Set(name, "") }

func (*slots) AppendHead(dst []byte, _ int) ([]byte, exchange.HeadForm, bool) {
	return dst, exchange.NoHead, true
}

func TestStampDoesNotAllocate(t *testing.T) {
	for name, head := range map[string]fields{
		"nothing":     {},
		"W3C":         {vocab.HeaderTraceparent: parent, vocab.HeaderRequestID: uuid},
		"b3":          {"b3": traceHex + "-" + spanHex + "-1-" + spanHex},
		"x-b3":        several("traceid", traceHex, "spanid", spanHex, "sampled", "1"),
		"uber":        {"uber-trace-id": traceHex + ":" + spanHex + ":0:1"},
		"census":      {"grpc-trace-bin": censusText(traceHex, spanHex, 1)},
		"own request": {vocab.HeaderRequestID: "order-42"},
	} {
		var x exchange.Exchange
		var h slots
		x.Request = &h
		if n := testing.AllocsPerRun(200, func() {
			h = slots{}
			for k, v := range head {
				h.Set(k, v)
			}
			x.Record.RequestID = ""
			Stamp(&x)
			RequestID(&x)
		}); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

func fuzzParser(f *testing.F, name string, seeds ...string) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h := fields{name: s}
		x := stamp(h)
		if h[name] == "" && s != "" {
			t.Errorf("%q is dropped", s)
		}
		if s != "" {
			sameSpan(t, x, h, name)
		}
		sameSpan(t, x, h, "traceparent")
	})
}

func FuzzB3(f *testing.F) {
	fuzzParser(f, "b3", "0", "d", traceHex+"-"+spanHex, traceHex+"-"+spanHex+"-1-"+spanHex, shortHex+"-"+spanHex+"-d")
}

func FuzzUber(f *testing.F) {
	fuzzParser(f, "uber-trace-id", traceHex+":"+spanHex+":0:1", "1%3A2%3a0:b")
}

func FuzzCensus(f *testing.F) {
	fuzzParser(f, "grpc-trace-bin", censusText(traceHex, spanHex, 1), "AAA=", "AAAA,BBBB")
}

func FuzzB3Several(f *testing.F) {
	f.Add(traceHex, spanHex, "1", "")
	f.Add("", "", "0", "1")
	f.Fuzz(func(t *testing.T, trace, span, sampled, flags string) {
		h := several("traceid", trace, "spanid", span, "sampled", sampled, "flags", flags)
		x := stamp(h)
		if trace != "" || sampled != "" {
			sameSpan(t, x, h, "x-b3")
		}
	})
}

func BenchmarkStamp(b *testing.B) {
	for name, head := range map[string]fields{
		"new": {}, "w3c": {vocab.HeaderTraceparent: parent, vocab.HeaderRequestID: uuid}, "b3": {"b3": traceHex + "-" + spanHex + "-1"},
	} {
		b.Run(name, func(b *testing.B) {
			var x exchange.Exchange
			var h slots
			x.Request = &h
			b.ReportAllocs()
			for b.Loop() {
				h = slots{}
				for k, v := range head {
					h.Set(k, v)
				}
				x.Record.RequestID = ""
				Stamp(&x)
			}
		})
	}
}
