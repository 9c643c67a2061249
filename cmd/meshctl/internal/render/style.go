// Package render turns the hub's documents into text for people: tables, the
// waterfall of a request, and graphs in the languages of Graphviz and Mermaid.
// Everything that came over the network is cleaned of control characters, so
// that a request's path cannot steer the terminal.
package render

import (
	"strings"
	"unicode"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// Paint is a colour. It never is the only carrier of what it says.
type Paint string

// Colours, as SGR codes (ECMA-48, section 8.3.117).
const (
	Plain  Paint = ""
	Bold   Paint = "1"
	Dim    Paint = "2"
	Red    Paint = "31"
	Green  Paint = "32"
	Yellow Paint = "33"
)

// Style says how text may look.
type Style struct {
	Color bool
	// Width of the terminal in columns.
	Width int
}

// Paint colours text if the style has colours.
func (s Style) Paint(p Paint, text string) string {
	if !s.Color || p == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(p) + "m" + text + "\x1b[0m"
}

// HealthPaint is the colour of a health.
func HealthPaint(h topologyv1.Health) Paint {
	switch h {
	case topologyv1.Healthy:
		return Green
	case topologyv1.Degraded:
		return Yellow
	case topologyv1.Failing, topologyv1.Lost:
		return Red
	}
	return Dim
}

// Clean replaces what would steer a terminal or break a line, and text
// directions, which would reorder what is around them.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
