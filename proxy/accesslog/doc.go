// Package accesslog writes a line for every request, in the formats and with
// the command operators of Envoy's access log, for those who have tools that
// read it. The mesh itself keeps records, which hold the same facts.
//
// What differs from Envoy:
//
//   - BYTES_RECEIVED and BYTES_SENT are those of the record: heads included.
//   - RESP(X-ENVOY-UPSTREAM-SERVICE-TIME) is the time to the upstream's first
//     byte if the answer has no such header, because no Envoy sets it.
//   - UPSTREAM_CLUSTER and ROUTE_NAME are both the record's route.
//   - Control characters are written as \xNN in text, so that a line is a line.
package accesslog
