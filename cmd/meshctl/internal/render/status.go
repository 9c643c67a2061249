package render

import (
	"fmt"
	"strconv"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// grpcNames are those of gRPC's status codes, by number
// (grpc.io/docs/guides/status-codes).
var grpcNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
	"UNAUTHENTICATED",
}

// grpcName is UNAVAILABLE for "14"; a number without a name, and what is no
// number, stay as they are.
func grpcName(status string) string {
	if n, err := strconv.ParseUint(status, 10, 32); err == nil && n < uint64(len(grpcNames)) {
		return grpcNames[n]
	}
	return Clean(status)
}

// Status is what the caller saw, in its protocol's words: of a gRPC call the
// name of its status, as one that failed has HTTP's 200; "none" where nothing
// came.
func Status(r *topologyv1.Record) string {
	switch {
	case r.GRPCStatus != "":
		return grpcName(r.GRPCStatus)
	case r.Code == 0:
		return "none"
	}
	return fmt.Sprint(r.Code)
}

// StatusPaint is the colour of a record's Status.
func StatusPaint(r *topologyv1.Record) Paint {
	switch {
	case r.GRPCStatus != "" && r.GRPCStatus != "0", r.Code == 0, r.Code >= 500:
		return Red
	case r.Code >= 400:
		return Yellow
	}
	return Green
}
