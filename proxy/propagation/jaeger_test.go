package propagation

import (
	"strings"
	"testing"

	"github.com/opentracing/opentracing-go"
	jaegerclient "github.com/uber/jaeger-client-go"
	"github.com/uber/jaeger-client-go/zipkin"

	"github.com/telemesh/telemesh/internal/ids"
)

// TestJaegersClientStaysInTheTrace goes from one of Jaeger's tracers through a
// sidecar to another.
func TestJaegersClientStaysInTheTrace(t *testing.T) {
	b3 := zipkin.NewZipkinB3HTTPHeaderPropagator()
	for name, tc := range map[string]struct {
		sampled bool
		options []jaegerclient.TracerOption
	}{
		"64 bits":     {true, nil},
		"128 bits":    {true, []jaegerclient.TracerOption{jaegerclient.TracerOptions.Gen128Bit(true)}},
		"not sampled": {false, nil},
		"b3": {true, []jaegerclient.TracerOption{
			jaegerclient.TracerOptions.Injector(opentracing.HTTPHeaders, b3), jaegerclient.TracerOptions.Extractor(opentracing.HTTPHeaders, b3),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			tracer, closer := jaegerclient.NewTracer("app", jaegerclient.NewConstSampler(tc.sampled), jaegerclient.NewNullReporter(), tc.options...)
			defer closer.Close()
			span := tracer.StartSpan("call")
			sent := span.Context().(jaegerclient.SpanContext)
			carrier := opentracing.TextMapCarrier{}
			if err := tracer.Inject(sent, opentracing.HTTPHeaders, carrier); err != nil {
				t.Fatal(err)
			}
			head := fields{}
			for k, v := range carrier {
				head[strings.ToLower(k)] = v
			}
			x := stamp(head)
			extracted, err := tracer.Extract(opentracing.HTTPHeaders, opentracing.TextMapCarrier(head))
			if err != nil {
				t.Fatalf("head %v: %v", head, err)
			}
			got := extracted.(jaegerclient.SpanContext)
			if got.TraceID() != sent.TraceID() || got.IsSampled() != tc.sampled || got.ParentID() != sent.SpanID() {
				t.Errorf("went on as %v, was %v", got, sent)
			}
			if own := ids.SpanID(x.Record.SpanID).String(); own != padded(got.SpanID().String()) {
				t.Errorf("the callee's parent is %s, want the sidecar's span %s", got.SpanID(), own)
			}
		})
	}
}

func padded(s string) string { return strings.Repeat("0", 16-len(s)) + s }
