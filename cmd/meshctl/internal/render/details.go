package render

import (
	"fmt"
	"io"
	"strings"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// Details writes, for each side of each hop of a request, its attempts, what
// policy said and the headers, or why there are none.
func Details(w io.Writer, t *topologyv1.Trace, s Style) error {
	var b strings.Builder
	for _, h := range t.Hops {
		for _, side := range []struct {
			name   string
			record *topologyv1.Record
		}{{"client side", h.Client}, {"server side", h.Server}} {
			if side.record == nil {
				continue
			}
			fmt.Fprintf(&b, "\n%s\n", s.Paint(Bold, hopName(h)+" ("+side.name+")"))
			if d := side.record.Details; d != nil {
				writeDetails(&b, d, s)
			} else {
				b.WriteString("  " + s.Paint(Yellow, "no details: "+Clean(side.record.DetailsMissing)) + "\n")
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeDetails(b *strings.Builder, d *topologyv1.Details, s Style) {
	for i, a := range d.Attempts {
		fmt.Fprintf(b, "  %s\n", attemptLine(i+1, a))
	}
	for _, p := range d.Decisions {
		by := "no rule had anything against it"
		if p.Policy != "" {
			by = "by " + Clean(p.Policy+"/"+p.Rule)
		}
		fmt.Fprintf(b, "  policy %s, %s, in %s\n", Clean(p.Verdict), by, Millis(p.DurationMs))
	}
	writeHead(b, "request", d.Request, s)
	writeHead(b, "response", d.Response, s)
	writeHead(b, "trailers", d.Trailers, s)
}

func attemptLine(number int, a topologyv1.Attempt) string {
	result := a.Result
	switch {
	case a.GRPCStatus != "" && a.GRPCStatus != "0":
		result = "grpc " + a.GRPCStatus
	case a.Code > 0:
		result = fmt.Sprint(a.Code)
	}
	line := fmt.Sprintf("attempt %d to %s at %s: %s after %s", number, Clean(a.Upstream), Millis(a.OffsetMs), Clean(result), Millis(a.DurationMs))
	if a.ConnectMs > 0 {
		line += ", connected in " + Millis(a.ConnectMs)
	}
	if a.FirstByteMs > 0 {
		line += ", first byte after " + Millis(a.FirstByteMs)
	}
	if a.Detail != "" && a.Result != "ok" {
		line += " (" + Clean(a.Detail) + ")"
	}
	return line
}

func writeHead(b *strings.Builder, what string, h *topologyv1.Head, s Style) {
	if h == nil {
		return
	}
	fmt.Fprintf(b, "  %s\n", strings.TrimSpace(what+"  "+Clean(h.Line)))
	for _, f := range h.Fields {
		paint := Plain
		if f.Redacted {
			paint = Dim
		}
		fmt.Fprintf(b, "    %s: %s\n", Clean(f.Name), s.Paint(paint, Clean(f.Value)))
	}
	if h.Truncated {
		b.WriteString("    … the rest was too long to be kept\n")
	}
}
