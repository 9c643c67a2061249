package report

import (
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	"github.com/telemesh/telemesh/internal/vocab"
)

// When records have to be dropped, those of notable requests go last: of those that
// failed, were denied (or would have been) or have a response flag, which a request's
// series says, and of those that were slow or tried again.

// slowAfter is what counts as slow, whatever is usual on the edge.
const slowAfter = time.Second

func isNotable(k rowKey) bool {
	return k.code >= 500 || k.code == 0 && k.protocol != vocab.ProtocolTCP || k.grpc > 1 || k.flags != vocab.NoFlags ||
		k.verdict != vocab.VerdictOK && k.verdict != ""
}

func isSlow(r *record.Record) bool { return r.Duration >= slowAfter || r.Attempts > 1 }
