package render

import (
	"fmt"
	"math"
	"strconv"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// None stands for a value that does not exist.
const None = "-"

// Rate is requests per second.
func Rate(perSecond float64) string { return strconv.FormatFloat(perSecond, 'f', 1, 64) }

// Millis is a duration given in milliseconds, with three digits that matter.
func Millis(ms float64) string {
	switch {
	case ms < 0 || math.IsNaN(ms):
		return None
	case ms < 9.95:
		return strconv.FormatFloat(ms, 'f', 2, 64) + "ms"
	case ms < 99.95:
		return strconv.FormatFloat(ms, 'f', 1, 64) + "ms"
	case ms < 999.5:
		return strconv.FormatFloat(ms, 'f', 0, 64) + "ms"
	}
	return strconv.FormatFloat(ms/1000, 'f', 2, 64) + "s"
}

// Success is the share of requests that succeeded. It is rounded down: 100%
// means that none failed.
func Success(s topologyv1.Signals) string {
	if s.Requests == 0 {
		return None
	}
	return strconv.FormatFloat(math.Floor((1-s.ErrorShare)*10000+1e-6)/100, 'f', 2, 64) + "%"
}

// Share is a part of one in per cent. It is rounded up: 0% means none.
func Share(share float64) string {
	return strconv.FormatFloat(max(0, math.Ceil(share*1000-1e-6))/10, 'f', 1, 64) + "%"
}

// Latency is a percentile of traffic that may have been none.
func Latency(s topologyv1.Signals, ms float64) string {
	if s.Requests == 0 {
		return None
	}
	return Millis(ms)
}

// Bytes is a size in binary units.
func Bytes(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%dB", n)
	}
	value, suffix := float64(n)/unit, 0
	for value >= unit && suffix < 4 {
		value, suffix = value/unit, suffix+1
	}
	return fmt.Sprintf("%.1f%ciB", value, "KMGTP"[suffix])
}

// Age is the time between two moments in Unix milliseconds, in its two largest
// units.
func Age(nowMillis, thenMillis int64) string {
	if thenMillis <= 0 {
		return "never"
	}
	d := max(0, time.Duration(nowMillis-thenMillis)*time.Millisecond)
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// Count writes a number with its noun, in the plural unless it is one.
func Count[T ~int | ~uint64](n T, noun string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, noun)
	}
	plural := noun + "s"
	switch noun[len(noun)-1] {
	case 'y':
		plural = noun[:len(noun)-1] + "ies"
	case 'h':
		plural = noun + "es"
	}
	return fmt.Sprintf("%d %s", n, plural)
}
