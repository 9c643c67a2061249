package bucket

import (
	"cmp"
	"errors"
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
	// Digits of numbers in names, so that they sort.
	timeDigits = 19
	digits     = 16
	tagDigits  = 16
)

// Log says which logs a segment holds: those that Hub has numbered First to
// Last.
type Log struct {
	Hub   string `json:"hub"`
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// segmentName is what stands before the extension of a meta.
type segmentName struct {
	end int64 // Unix nanoseconds, not negative
	Log
}

func (n segmentName) String() string {
	return fmt.Sprintf("%0*d-%s-%0*d-%0*d", timeDigits, n.end, n.Hub, digits, n.First, digits, n.Last)
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
	fields := strings.Split(s, "-")
	last := len(fields) - 1
	if last < 3 {
		return n, false
	}
	var errs [3]error
	n.end, errs[0] = strconv.ParseInt(fields[0], 10, 64)
	n.Hub = strings.Join(fields[1:last-1], "-")
	n.First, errs[1] = strconv.ParseUint(fields[last-1], 10, 64)
	n.Last, errs[2] = strconv.ParseUint(fields[last], 10, 64)
	return n, errors.Join(errs[:]...) == nil && n.String() == s && n.end >= 0 && n.First <= n.Last && checkName(n.Hub) == nil
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
	return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.Hub, b.Hub), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
}
