package segment

import (
	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// Found is one record with its edge and who reported it. Record.Edge is 0 and
// means nothing.
type Found struct {
	Record record.Record
	Edge   *telemetryv1.Edge
	Sender string
}
