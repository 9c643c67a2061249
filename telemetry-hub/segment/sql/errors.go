package sql

import (
	"fmt"
	"unicode/utf8"
)

// Pos is a place in the text of a query, both from 1; columns count characters.
type Pos struct{ Line, Column int }

func (p Pos) String() string { return fmt.Sprintf("%d:%d", p.Line, p.Column) }

// posAt is the place of an offset in bytes.
func posAt(text string, offset int) Pos {
	p := Pos{1, 1}
	for i, r := range text {
		if i >= offset {
			break
		}
		if r == '\n' {
			p = Pos{p.Line + 1, 1}
		} else {
			p.Column++
		}
	}
	return p
}

// Error is a query that is wrong, and where.
type Error struct {
	Pos    Pos
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Pos, e.Reason) }

// UnsupportedError is a query that may be right SQL and is outside of the
// subset. DuckDB may do it.
type UnsupportedError struct {
	Pos  Pos
	What string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s: %s is not part of the SQL that meshctl itself understands; DuckDB does it", e.Pos, e.What)
}

// clip shortens what is quoted in an error.
func clip(s string) string {
	const most = 40
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}
