package policy

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// position finds where a place in a scalar's value (line and column from 1, in
// runes) stands in the file. YAML folds lines, strips indentation and escapes
// characters, so value and source are walked side by side.
func position(source []string, n *yaml.Node, line, column int) (int, int) {
	if n.Line < 1 || n.Line > len(source) {
		return max(n.Line, 1), max(n.Column, 1)
	}
	if n.Style&yaml.LiteralStyle != 0 {
		return literalPosition(source, n, line, column)
	}
	offset := runeOffset(n.Value, line, column)
	w := walker{source: source, line: n.Line - 1, column: n.Column - 1}
	switch n.Style &^ yaml.TaggedStyle {
	case yaml.FoldedStyle:
		w.line, w.column = w.line+1, 0
		w.skipSpace()
	case yaml.DoubleQuotedStyle, yaml.SingleQuotedStyle:
		w.column++
		w.quote = w.at(-1)
	}
	for _, c := range []rune(n.Value)[:offset] {
		w.step(c)
	}
	// The place itself may begin after a fold.
	if w.column >= w.width() {
		w.skipSpace()
	}
	if w.line >= len(source) {
		return n.Line, n.Column
	}
	return w.line + 1, w.column + 1
}

// literalPosition is for block scalars with |, which keep their lines and lose
// only the indentation of the first.
func literalPosition(source []string, n *yaml.Node, line, column int) (int, int) {
	for _, s := range source[n.Line:] {
		if text := strings.TrimLeft(s, " "); strings.TrimSpace(text) != "" {
			return n.Line + line, len(s) - len(text) + column
		}
	}
	return n.Line, n.Column
}

// runeOffset turns a line and column within text into a rune index.
func runeOffset(text string, line, column int) int {
	offset := 0
	for l, s := range strings.SplitAfter(text, "\n") {
		runes := len([]rune(s))
		if l+1 == line {
			return offset + min(column-1, runes)
		}
		offset += runes
	}
	return offset
}

// walker is a place in the file. quote is the quotation mark it is within.
type walker struct {
	source       []string
	line, column int
	quote        rune
}

func (w *walker) width() int {
	if w.line >= len(w.source) {
		return 0
	}
	return len([]rune(w.source[w.line]))
}

// at is the rune at a distance from the place, zero outside the line.
func (w *walker) at(distance int) rune {
	if w.line >= len(w.source) {
		return 0
	}
	line := []rune(w.source[w.line])
	if i := w.column + distance; i >= 0 && i < len(line) {
		return line[i]
	}
	return 0
}

// step moves behind the source of one rune of the value.
func (w *walker) step(c rune) {
	if c == '\n' || c == ' ' && w.column >= w.width() {
		w.column = w.width()
		w.skipSpace()
		return
	}
	switch {
	case w.quote == '\'' && w.at(0) == '\'':
		w.column += 2
	case w.quote == '"' && w.at(0) == '\\':
		w.column += escapeWidth(w.at(1))
	default:
		if w.column >= w.width() {
			w.skipSpace()
		}
		w.column++
	}
}

// skipSpace moves over line ends and indentation to the next visible rune.
func (w *walker) skipSpace() {
	for w.line < len(w.source) {
		if w.column >= w.width() {
			w.line, w.column = w.line+1, 0
			continue
		}
		if c := w.at(0); c != ' ' && c != '\t' && c != '\r' {
			return
		}
		w.column++
	}
}

func escapeWidth(c rune) int {
	switch c {
	case 'x':
		return 4
	case 'u':
		return 6
	case 'U':
		return 10
	}
	return 2
}
