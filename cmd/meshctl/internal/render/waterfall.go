package render

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/vocab"
)

const (
	minBar   = 16
	minLabel = 16
	maxLabel = 48
)

// Waterfall writes a request: a header, one line per side of each hop with its
// bar in time, then in words what the mesh decided and what is missing.
func Waterfall(w io.Writer, t *topologyv1.Trace, s Style) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", s.Paint(Bold, "request"), Clean(t.RequestID))
	fmt.Fprintf(&b, "%s   %s\n", s.Paint(Bold, "trace"), Clean(t.TraceID))
	fmt.Fprintf(&b, "%s   %s   %s %s   %s\n\n", s.Paint(Bold, "start"),
		time.Unix(0, t.StartUnixNano).UTC().Format("2006-01-02 15:04:05.000 UTC"),
		s.Paint(Bold, "total"), Millis(t.DurationMs), Count(len(t.Hops), "hop"))
	f := newFall(t, s)
	f.header(&b)
	for _, h := range t.Hops {
		f.hop(&b, h)
	}
	f.notes(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// fall is the layout of a waterfall.
type fall struct {
	trace      *topologyv1.Trace
	style      Style
	label, bar int     // widths in columns
	scale      float64 // columns per millisecond
	status     int
	verdict    int
	flags      int
}

const (
	sideWidth     = 6
	minStatus     = 7
	durationWidth = 8
	gutter        = 2
)

func newFall(t *topologyv1.Trace, s Style) *fall {
	f := &fall{trace: t, style: s, status: minStatus, verdict: len("VERDICT"), flags: len("FLAGS"), label: minLabel}
	total := t.DurationMs
	for _, h := range t.Hops {
		f.label = max(f.label, utf8.RuneCountInString(title(h)), utf8.RuneCountInString(subtitle(h)))
		for _, r := range sides(h) {
			f.status = max(f.status, utf8.RuneCountInString(Status(r)))
			f.verdict = max(f.verdict, utf8.RuneCountInString(r.Verdict))
			f.flags = max(f.flags, utf8.RuneCountInString(r.Flags))
			total = max(total, f.offset(r)+r.DurationMs)
		}
	}
	f.label = min(f.label, maxLabel)
	fixed := sideWidth + f.status + durationWidth + f.verdict + f.flags + 6*gutter
	if short := fixed + f.label + minBar - s.Width; short > 0 {
		f.label = max(minLabel, f.label-short)
	}
	f.bar = max(minBar, s.Width-fixed-f.label)
	if total > 0 {
		f.scale = float64(f.bar) / total
	}
	return f
}

func sides(h topologyv1.Hop) (list []*topologyv1.Record) {
	for _, r := range []*topologyv1.Record{h.Client, h.Server} {
		if r != nil {
			list = append(list, r)
		}
	}
	return list
}

// offset is when a side began, in milliseconds from the trace's start. Clocks
// of two machines differ, so it may be negative.
func (f *fall) offset(r *topologyv1.Record) float64 {
	return float64(r.StartUnixNano-f.trace.StartUnixNano) / 1e6
}

func title(h topologyv1.Hop) string {
	return strings.Repeat("  ", h.Depth) + hopName(h)
}

func hopName(h topologyv1.Hop) string {
	name := func(p func(*topologyv1.Record) topologyv1.Party, id string) string {
		for _, r := range sides(h) {
			if w := p(r).Workload; w != "" && w != vocab.Unknown {
				return w
			}
		}
		return id
	}
	return Clean(name(func(r *topologyv1.Record) topologyv1.Party { return r.Source }, h.Source) +
		" → " + name(func(r *topologyv1.Record) topologyv1.Party { return r.Destination }, h.Destination))
}

func subtitle(h topologyv1.Hop) string {
	r := sides(h)
	if len(r) == 0 {
		return ""
	}
	return strings.Repeat("  ", h.Depth) + Clean(strings.TrimSpace(r[0].Method+" "+r[0].Path))
}

func (f *fall) header(b *strings.Builder) {
	end := Millis(float64(f.bar) / max(f.scale, 1e-9))
	if f.scale == 0 {
		end = None
	}
	axis := "0ms" + strings.Repeat(" ", max(1, f.bar-len("0ms")-len(end))) + end
	line := f.columns(pad("HOP", f.label), "SIDE", "STATUS", "DURATION", "VERDICT", "FLAGS", Plain) + axis
	b.WriteString(f.style.Paint(Bold, line) + "\n")
}

// columns is everything in front of the bar.
func (f *fall) columns(label, side, status, duration, verdict, flags string, paint Paint) string {
	space := strings.Repeat(" ", gutter)
	return label + space + pad(side, sideWidth) + space +
		f.style.Paint(paint, pad(status, f.status)) + space +
		strings.Repeat(" ", max(0, durationWidth-len(duration))) + duration + space +
		f.style.Paint(verdictPaint(verdict), pad(verdict, f.verdict)) + space + pad(flags, f.flags) + space
}

func (f *fall) hop(b *strings.Builder, h topologyv1.Hop) {
	paint := Plain
	if h.Failed {
		paint = Red
	}
	first := f.style.Paint(paint, pad(cut(title(h), f.label), f.label))
	second := f.style.Paint(Dim, pad(cut(subtitle(h), f.label), f.label))
	b.WriteString(f.side(first, "client", h.Client, h.Gap) + "\n")
	b.WriteString(f.side(second, "server", h.Server, h.Gap) + "\n")
}

func (f *fall) side(label, name string, r *topologyv1.Record, gap string) string {
	space := strings.Repeat(" ", gutter)
	if r == nil {
		if gap == "" {
			gap = "this side reported nothing"
		}
		return label + space + pad(name, sideWidth) + space + f.style.Paint(Yellow, "no record: "+Clean(gap))
	}
	flags := Clean(r.Flags)
	if flags == "" {
		flags = vocab.NoFlags
	}
	line := f.columns(label, name, Status(r), Millis(r.DurationMs), Clean(r.Verdict), flags, StatusPaint(r))
	return line + strings.TrimRight(f.barOf(r, StatusPaint(r)), " ")
}

func verdictPaint(v string) Paint {
	if refused(v) {
		return Yellow
	}
	return Plain
}

func refused(verdict string) bool {
	return verdict != "" && verdict != vocab.VerdictOK && verdict != "VERDICT"
}

func (f *fall) barOf(r *topologyv1.Record, p Paint) string {
	from := int(math.Round(f.offset(r) * f.scale))
	length := max(1, int(math.Round(r.DurationMs*f.scale)))
	from = min(max(from, 0), f.bar-1)
	length = min(length, f.bar-from)
	return strings.Repeat(" ", from) + f.style.Paint(p, strings.Repeat("█", length))
}

// notes say in words what the columns have no room for.
func (f *fall) notes(b *strings.Builder) {
	var notes []string
	for _, h := range f.trace.Hops {
		for _, r := range sides(h) {
			where := hopName(h) + " (client side): "
			if r == h.Server {
				where = hopName(h) + " (server side): "
			}
			if refused(r.Verdict) {
				notes = append(notes, where+r.Verdict+" by rule "+orUnknown(r.Rule))
			}
			if r.Detail != "" && r.Flags != "" && r.Flags != vocab.NoFlags {
				notes = append(notes, where+r.Flags+": "+r.Detail)
			}
			if r.Attempts > 1 {
				notes = append(notes, where+Count(int(r.Attempts), "attempt"))
			}
		}
	}
	if len(notes) > 0 {
		b.WriteString("\n")
	}
	for _, n := range notes {
		b.WriteString(f.style.Paint(Yellow, "note") + "  " + Clean(n) + "\n")
	}
	if len(f.trace.Gaps) > 0 {
		b.WriteString("\n")
	}
	for _, g := range f.trace.Gaps {
		b.WriteString(f.style.Paint(Yellow, "gap") + "   " + Clean(g) + "\n")
	}
}

func orUnknown(s string) string {
	if s == "" {
		return vocab.Unknown
	}
	return s
}

// pad fills text up to a width in runes.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

// cut shortens text to a width in runes, with an ellipsis at its end.
func cut(s string, width int) string {
	runes := []rune(s)
	if len(runes) <= width {
		return s
	}
	return string(runes[:width-1]) + "…"
}
