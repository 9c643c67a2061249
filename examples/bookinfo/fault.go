package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxDelay keeps a mistyped delay from hanging callers past their own timeout
// by more than a demonstration needs.
const maxDelay = time.Minute

// Fault is what the ratings service does wrong on purpose. The zero value is
// none. Shares run from 0 to 1 and are drawn for each request.
type Fault struct {
	ErrorStatus int
	ErrorShare  float64
	Delay       time.Duration
	DelayShare  float64
}

// ParseFault reads a comma-separated list of at most one of each:
//
//	error=10%          error=503:10%       status 500 unless said
//	delay=500ms        delay=500ms:20%     every request unless said
//
// Empty means no fault.
func ParseFault(spec string) (Fault, error) {
	var f Fault
	if spec == "" {
		return f, nil
	}
	seen := map[string]bool{}
	for _, part := range strings.Split(spec, ",") {
		kind, value, ok := strings.Cut(part, "=")
		if !ok {
			return Fault{}, fmt.Errorf("%q: want error=SHARE%% or delay=DURATION[:SHARE%%]", part)
		}
		if seen[kind] {
			return Fault{}, fmt.Errorf("%q: %s is given twice", part, kind)
		}
		seen[kind] = true
		var err error
		switch kind {
		case "error":
			err = f.parseError(value)
		case "delay":
			err = f.parseDelay(value)
		default:
			err = fmt.Errorf("unknown fault %q, want error or delay", kind)
		}
		if err != nil {
			return Fault{}, fmt.Errorf("%q: %w", part, err)
		}
	}
	return f, nil
}

func (f *Fault) parseError(value string) error {
	f.ErrorStatus = http.StatusInternalServerError
	if status, share, ok := strings.Cut(value, ":"); ok {
		n, err := strconv.Atoi(status)
		if err != nil || n < 400 || n > 599 {
			return fmt.Errorf("status %q is not 400 to 599", status)
		}
		f.ErrorStatus, value = n, share
	}
	var err error
	f.ErrorShare, err = parseShare(value)
	return err
}

func (f *Fault) parseDelay(value string) error {
	f.DelayShare = 1
	delay, share, ok := strings.Cut(value, ":")
	if ok {
		var err error
		if f.DelayShare, err = parseShare(share); err != nil {
			return err
		}
	}
	d, err := time.ParseDuration(delay)
	if err != nil || d <= 0 || d > maxDelay {
		return fmt.Errorf("delay %q is not a duration up to %s, such as 500ms", delay, maxDelay)
	}
	f.Delay = d
	return nil
}

// parseShare reads a percentage above 0 and up to 100.
func parseShare(text string) (float64, error) {
	digits, ok := strings.CutSuffix(text, "%")
	n, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(n > 0 && n <= 100) {
		return 0, fmt.Errorf("share %q is not a percentage above 0%% and up to 100%%", text)
	}
	return n / 100, nil
}

// String is the form that ParseFault reads, empty for no fault.
func (f Fault) String() string {
	var parts []string
	if f.ErrorShare > 0 {
		parts = append(parts, fmt.Sprintf("error=%d:%s", f.ErrorStatus, percent(f.ErrorShare)))
	}
	if f.Delay > 0 {
		parts = append(parts, fmt.Sprintf("delay=%s:%s", f.Delay, percent(f.DelayShare)))
	}
	return strings.Join(parts, ",")
}

// percent rounds to a millionth, to hide that 0.07*100 is not 7 in binary.
func percent(share float64) string {
	return strconv.FormatFloat(float64(int64(share*100*1e6+0.5))/1e6, 'f', -1, 64) + "%"
}
