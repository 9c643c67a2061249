package sql

import (
	"cmp"
	"math"
	"strconv"
	"time"
)

// Kind is the type of a value.
type Kind uint8

// The kinds.
const (
	KindNull Kind = iota
	KindBool
	KindInt
	KindFloat
	KindText
	KindTime     // nanoseconds since 1970, UTC
	KindInterval // nanoseconds
	KindMap      // the attributes of a record, as a JSON object
)

// String is the name in SQL.
func (k Kind) String() string {
	return [...]string{"null", "boolean", "bigint", "double", "varchar", "timestamp", "interval", "map"}[k]
}

// Value is one value. Int has those of boolean (0 or 1), bigint, timestamp and
// interval.
type Value struct {
	Kind  Kind
	Int   int64
	Float float64
	Text  string
}

// timeLayout keeps its width, so that texts sort as times do.
const timeLayout = "2006-01-02T15:04:05.000000000Z"

// String is the value as people read it; null is empty.
func (v Value) String() string {
	switch v.Kind {
	case KindBool:
		return strconv.FormatBool(v.Int != 0)
	case KindInt:
		return strconv.FormatInt(v.Int, 10)
	case KindFloat:
		return strconv.FormatFloat(v.Float, 'g', -1, 64)
	case KindText, KindMap:
		return v.Text
	case KindTime:
		return time.Unix(0, v.Int).UTC().Format(timeLayout)
	case KindInterval:
		return time.Duration(v.Int).String()
	}
	return ""
}

// compare orders two values of one kind that are not null. NaN is greater than
// all, as in DuckDB.
func compare(a, b Value) int {
	switch a.Kind {
	case KindFloat:
		if an, bn := math.IsNaN(a.Float), math.IsNaN(b.Float); an || bn {
			return cmp.Compare(truth(an), truth(bn))
		}
		return cmp.Compare(a.Float, b.Float)
	case KindText, KindMap:
		return cmp.Compare(a.Text, b.Text)
	}
	return cmp.Compare(a.Int, b.Int)
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// timeLayouts are those of timestamps in queries.
var timeLayouts = []string{
	time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999",
	"2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02",
}

// parseTime reads a timestamp; without an offset it is UTC.
func parseTime(s string) (int64, bool) {
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, s, time.UTC); err == nil {
			if y := t.Year(); y < 1678 || y > 2261 { // what fits 64 bits of nanoseconds
				return 0, false
			}
			return t.UnixNano(), true
		}
	}
	return 0, false
}
