package convert

import (
	"strconv"
	"strings"
)

// and joins conditions; empty ones are those that always hold.
func and(terms ...string) string {
	var all []string
	for _, t := range terms {
		if t != "" {
			all = append(all, t)
		}
	}
	if len(all) == 1 {
		return all[0]
	}
	for i, t := range all {
		if strings.Contains(t, "||") || strings.Contains(t, "?") {
			all[i] = "(" + t + ")"
		}
	}
	return strings.Join(all, " && ")
}

func quote(s string) string { return strconv.Quote(s) }

// header is the expression of a request header, present the condition under which
// it may be read.
func header(name string) (expression, present string) {
	name = strings.ToLower(name)
	return "request.headers[" + quote(name) + "]", quote(name) + " in request.headers"
}
