package bucket

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	metaRoot    = "v1/meta"
	recordsRoot = "v1/records"
	indexRoot   = "v1/index"
	logRoot     = "v1/log"
	leaseRoot   = "v1/leases"

	dayPrefix = "day="
	digits    = 20 // of the numbers in names, so that they sort
	tagDigits = 16
)

// Log says which log a segment holds: the hub that wrote it, and its number
// there.
type Log struct {
	Hub    string `json:"hub"`
	Number uint64 `json:"number"`
}

// segmentName is what stands before the extension of a meta.
type segmentName struct {
	end int64 // Unix nanoseconds, not negative
	Log
}

func (n segmentName) String() string {
	return fmt.Sprintf("%0*d-%s-%0*d", digits, n.end, n.Hub, digits, n.Number)
}

// day is the folder of the segment.
func (n segmentName) day() string { return dayOf(time.Unix(0, n.end)) }

func dayOf(t time.Time) string { return dayPrefix + t.UTC().Format(time.DateOnly) }

func (n segmentName) meta() string { return metaRoot + "/" + n.day() + "/" + n.String() + ".json" }

func (n segmentName) records(tag string) string {
	return recordsRoot + "/" + n.day() + "/" + n.String() + "-" + tag + ".parquet"
}

func (n segmentName) index(tag string) string {
	return indexRoot + "/" + n.day() + "/" + n.String() + "-" + tag + ".index"
}

func parseSegmentName(s string) (n segmentName, ok bool) {
	if len(s) < 2*digits+3 || s[digits] != '-' || s[len(s)-digits-1] != '-' {
		return n, false
	}
	end, err := strconv.ParseInt(s[:digits], 10, 64)
	number, err2 := strconv.ParseUint(s[len(s)-digits:], 10, 64)
	n = segmentName{end, Log{s[digits+1 : len(s)-digits-1], number}}
	return n, err == nil && err2 == nil && end >= 0 && checkName(n.Hub) == nil
}

// parseMeta reads the name of a meta object.
func parseMeta(object string) (n segmentName, ok bool) {
	rest, ok := strings.CutPrefix(object, metaRoot+"/"+dayPrefix)
	if !ok {
		return n, false
	}
	_, base, ok := strings.Cut(rest, "/")
	if !ok {
		return n, false
	}
	base, ok = strings.CutSuffix(base, ".json")
	if !ok {
		return n, false
	}
	n, ok = parseSegmentName(base)
	return n, ok && n.meta() == object
}

// parsePart reads the name of an object of records or of an index.
func parsePart(object string) (n segmentName, ok bool) {
	base := object[strings.LastIndexByte(object, '/')+1:]
	dot := strings.LastIndexByte(base, '.') // a hub's name may hold others
	if dot < 0 {
		return n, false
	}
	base = base[:dot]
	if len(base) < tagDigits+1 || base[len(base)-tagDigits-1] != '-' {
		return n, false
	}
	return parseSegmentName(base[:len(base)-tagDigits-1])
}

// checkName accepts what can stand in the name of an object and of a file.
func checkName(s string) error {
	if s == "" || len(s) > 100 || s == "." || s == ".." {
		return fmt.Errorf("name %q: want 1 to 100 letters, digits, dots, hyphens and underscores", s)
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", rune(c)) {
			return fmt.Errorf("name %q: want letters, digits, dots, hyphens and underscores", s)
		}
	}
	return nil
}

// compareNames orders by end, hub and number.
func compareNames(a, b segmentName) int {
	return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.Hub, b.Hub), cmp.Compare(a.Number, b.Number))
}
