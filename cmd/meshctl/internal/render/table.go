package render

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Cell is one field of a table.
type Cell struct {
	Text  string
	Paint Paint
}

// Table is columns of aligned text. The zero value is an empty table.
type Table struct {
	Header []string
	// Right lists the columns that are aligned to the right.
	Right map[int]bool
	rows  [][]Cell
}

// Numbers says that the columns with these headers are aligned to the right.
func (t *Table) Numbers(headers ...string) {
	if t.Right == nil {
		t.Right = make(map[int]bool)
	}
	for _, h := range headers {
		for i, name := range t.Header {
			if name == h {
				t.Right[i] = true
			}
		}
	}
}

// Row appends a row. Arguments are Cells, or anything that prints as text. An
// empty one is shown as "-", so that columns can be counted by scripts.
func (t *Table) Row(fields ...any) {
	row := make([]Cell, len(fields))
	for i, f := range fields {
		cell, ok := f.(Cell)
		if !ok {
			cell.Text = fmt.Sprint(f)
		}
		cell.Text = Clean(cell.Text)
		if cell.Text == "" {
			cell.Text = "-"
		}
		row[i] = cell
	}
	t.rows = append(t.rows, row)
}

// Write prints header and rows, columns three spaces apart.
func (t *Table) Write(w io.Writer, s Style) error {
	width := make([]int, len(t.Header))
	for i, h := range t.Header {
		width[i] = utf8.RuneCountInString(h)
	}
	for _, row := range t.rows {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c.Text))
		}
	}
	var b strings.Builder
	header := make([]Cell, len(t.Header))
	for i, h := range t.Header {
		header[i] = Cell{Text: h, Paint: Bold}
	}
	t.line(&b, s, width, header)
	for _, row := range t.rows {
		t.line(&b, s, width, row)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *Table) line(b *strings.Builder, s Style, width []int, row []Cell) {
	for i, c := range row {
		pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c.Text))
		switch {
		case t.Right[i]:
			b.WriteString(pad + s.Paint(c.Paint, c.Text))
		case i == len(row)-1:
			b.WriteString(s.Paint(c.Paint, c.Text))
		default:
			b.WriteString(s.Paint(c.Paint, c.Text) + pad)
		}
		if i < len(row)-1 {
			b.WriteString("   ")
		}
	}
	b.WriteByte('\n')
}
