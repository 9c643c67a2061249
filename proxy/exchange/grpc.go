package exchange

import (
	"fmt"
	"strings"

	"github.com/telemesh/telemesh/internal/vocab"
)

// GRPCStatus maps an HTTP status of the sidecar's own as gRPC's
// http-grpc-status-mapping does, but for 429, which callers of a limited
// service read as RESOURCE_EXHAUSTED, and for a deadline.
func GRPCStatus(flag string, http int) int {
	if flag == vocab.FlagUpstreamTimeout {
		return 4
	}
	switch http {
	case 400:
		return 13
	case 401:
		return 16
	case 403:
		return 7
	case 404:
		return 12
	case 429:
		return 8
	case 502, 503, 504:
		return 14
	}
	return 2
}

// GRPCMessage percent-encodes what a gRPC status message may not hold as it is
// (gRPC over HTTP/2, "Status-Message").
func GRPCMessage(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
