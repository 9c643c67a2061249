package trace

import (
	"fmt"
	"strconv"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// accessLog is the record as a line in Istio's default format of Envoy's access
// log (24 fields). What the thin record does not hold is "-".
func accessLog(r *topologyv1.Record) string {
	const none = "-"
	dash := func(s string) string {
		if s == "" {
			return none
		}
		return s
	}
	upstreamTime := none
	if r.FirstByteMs > 0 {
		upstreamTime = strconv.Itoa(int(r.FirstByteMs))
	}
	return fmt.Sprintf(`[%s] "%s %s %s" %d %s %s %s "%s" %d %d %d %s "%s" "%s" "%s" "%s" "%s" %s %s %s %s %s %s`,
		time.Unix(0, r.StartUnixNano).UTC().Format("2006-01-02T15:04:05.000Z"),
		dash(r.Method), dash(r.Path), dash(r.HTTPVersion), r.Code, dash(r.Flags), dash(r.Detail), none, none,
		r.BytesIn, r.BytesOut, int(r.DurationMs), upstreamTime, none, dash(r.UserAgent), r.RequestID, dash(r.Host), dash(r.Upstream),
		dash(r.Route), none, none, none, none, dash(r.Route))
}
