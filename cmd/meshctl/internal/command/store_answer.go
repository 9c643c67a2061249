package command

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"math"
	"strings"

	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
	"github.com/telemesh/telemesh/telemetry-hub/segment/sql"
)

// write writes an answer in the format that was asked for.
func (q *storeQuery) write(r *sql.Result) error {
	switch q.output.format {
	case formatJSON:
		return q.writeObjects(r)
	case formatCSV:
		return q.writeCSV(r)
	}
	t := &render.Table{Right: make(map[int]bool)}
	for i, name := range r.Columns {
		t.Header = append(t.Header, strings.ToUpper(render.Clean(name)))
		t.Right[i] = r.Kinds[i] == sql.KindInt || r.Kinds[i] == sql.KindFloat || r.Kinds[i] == sql.KindInterval
	}
	for _, row := range r.Rows {
		cells := make([]any, len(row))
		for i, v := range row {
			cells[i] = v.String()
		}
		t.Row(cells...)
	}
	return t.Write(q.Out, q.style())
}

// writeObjects writes an array of objects, an object a line, with the columns in
// their order.
func (q *storeQuery) writeObjects(r *sql.Result) error {
	w := bufio.NewWriter(q.Out)
	names := make([]string, len(r.Columns))
	for i, name := range r.Columns {
		names[i] = quoteJSON(name)
	}
	for n, row := range r.Rows {
		before := ",\n {"
		if n == 0 {
			before = "[\n {"
		}
		_, _ = w.WriteString(before) // Flush tells the error
		for i, v := range row {
			if i > 0 {
				_, _ = w.WriteString(", ")
			}
			_, _ = w.WriteString(names[i] + ": " + valueJSON(v))
		}
		_ = w.WriteByte('}')
	}
	end := "\n]\n"
	if len(r.Rows) == 0 {
		end = "[]\n"
	}
	_, _ = w.WriteString(end)
	return w.Flush()
}

func quoteJSON(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return `""` // texts can always be written
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func valueJSON(v sql.Value) string {
	switch v.Kind {
	case sql.KindNull:
		return "null"
	case sql.KindFloat:
		if math.IsNaN(v.Float) || math.IsInf(v.Float, 0) {
			return "null" // JSON has none
		}
		return v.String()
	case sql.KindBool, sql.KindInt, sql.KindMap:
		return v.String()
	}
	return quoteJSON(v.String())
}

func (q *storeQuery) writeCSV(r *sql.Result) error {
	w := csv.NewWriter(q.Out)
	_ = w.Write(r.Columns) // Error tells
	for _, row := range r.Rows {
		fields := make([]string, len(row))
		for i, v := range row {
			fields[i] = v.String()
		}
		_ = w.Write(fields)
	}
	w.Flush()
	return w.Error()
}
