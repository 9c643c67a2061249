package check

import (
	"strconv"
	"strings"
	"time"

	policy "github.com/telemesh/telemesh/policy-check"
)

// Response headers of limits: the IETF's (draft-ietf-httpapi-ratelimit-headers-11)
// and the older three that envoyproxy/ratelimit sends.
const (
	headerRetryAfter      = "retry-after"
	headerPolicy          = "ratelimit-policy"
	headerLimit           = "ratelimit"
	headerLegacyLimit     = "x-ratelimit-limit"
	headerLegacyRemaining = "x-ratelimit-remaining"
	headerLegacyReset     = "x-ratelimit-reset"
)

func ietf(headers string) bool {
	return headers == policy.HeadersIETF || headers == policy.HeadersBoth
}

func legacy(headers string) bool {
	return headers == policy.HeadersLegacy || headers == policy.HeadersBoth
}

// admittedHeaders describe every limit that was enforced on the request; the
// old headers have room for one, the tightest.
func (e *evaluation) admittedHeaders(held []taken) []Header {
	var policies, limits strings.Builder
	var tightest *taken
	for i := range held {
		t := &held[i]
		if !t.rule.enforced(e.draw) {
			continue
		}
		if ietf(t.rule.headers) {
			if policies.Len() > 0 {
				policies.WriteString(", ")
				limits.WriteString(", ")
			}
			policies.WriteString(t.bucket.item)
			limits.WriteString(t.item())
		}
		if legacy(t.rule.headers) && (tightest == nil || t.Remaining < tightest.Remaining) {
			tightest = t
		}
	}
	var out []Header
	if policies.Len() > 0 {
		out = append(out, Header{headerPolicy, policies.String()}, Header{headerLimit, limits.String()})
	}
	if tightest != nil {
		out = append(out, tightest.legacy()...)
	}
	return out
}

// refusedHeaders describe the limit that refused.
func refusedHeaders(r *rule, t taken) []Header {
	if r.headers == policy.HeadersNone {
		return nil
	}
	retry := max(wholeSeconds(t.RetryAfter), 1)
	out := []Header{{headerRetryAfter, strconv.FormatInt(retry, 10)}}
	t.Remaining = 0
	t.Reset = max(t.Reset, t.RetryAfter)
	if ietf(r.headers) {
		out = append(out, Header{headerPolicy, t.bucket.item}, Header{headerLimit, t.item()})
	}
	if legacy(r.headers) {
		out = append(out, t.legacy()...)
	}
	return out
}

// item is RateLimit's member: what remains, and for how long that holds.
func (t *taken) item() string {
	b := make([]byte, 0, 48)
	b = append(b, t.bucket.name...)
	b = append(b, ";r="...)
	b = strconv.AppendInt(b, max(t.Remaining, 0), 10)
	b = append(b, ";t="...)
	return string(strconv.AppendInt(b, wholeSeconds(t.Reset), 10))
}

func (t *taken) legacy() []Header {
	return []Header{
		{headerLegacyLimit, t.bucket.quota},
		{headerLegacyRemaining, strconv.FormatInt(max(t.Remaining, 0), 10)},
		{headerLegacyReset, strconv.FormatInt(wholeSeconds(t.Reset), 10)},
	}
}

// wholeSeconds rounds up: a caller that comes back then is not early.
func wholeSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
