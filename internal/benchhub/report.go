package main

import (
	"fmt"
	"time"

	"github.com/telemesh/telemesh/internal/figures"
)

// wanted is what is measured, in the order of the page.
var wanted = []figures.Figure{
	figures.AtMost("encode_us", "encode a record in the sidecar, CPU", "µs", 0.8),
	figures.AtMost("decode_us", "decode it in the hub, CPU", "µs", 0.3),
	figures.AtMost("wire_bytes_per_record", "on the wire", "B", 57),
	figures.AtMost("socket_to_sealed_us", "from the socket to durable, counted, sealed and read back: CPU of the whole hub", "µs", 2),
	figures.AtMost("bytes_per_record", "on disk, index included", "B", 40),
	figures.Free("records_per_second", "records a second while it lasted, generator beside it", ""),
	figures.Free("segments", "segments", ""),
	figures.Free("resident_mb", "resident memory of the hub afterwards", "MB"),
	figures.AtMost("find_warm_p50_ms", "find all records of a request by HTTP, warm, p50", "ms", 2),
	figures.AtMost("find_warm_p99_ms", "p99", "ms", 8),
	figures.Free("find_cold_p50_ms", "the same, cold from disk, p50", "ms"),
	figures.AtMost("find_cold_p99_ms", "p99", "ms", 30),
	figures.Free("find_s3_p50_ms", "the same by another hub, from S3 on loopback, p50", "ms"),
	figures.AtMost("find_s3_p99_ms", "p99", "ms", 60),
	figures.Free("find_s3_reads", "reads of the bucket for each of them", ""),
	figures.Free("graph_p50_ms", "graph of the last minute by HTTP, p50", "ms"),
	figures.Free("graph_p99_ms", "p99", "ms"),
	figures.Free("visible_p50_ms", "from a batch's departure until its records are found, p50", "ms"),
	figures.Free("visible_p99_ms", "p99", "ms"),
	figures.Free("visible_after_response_p50_ms", "from a response through a real sidecar until its request is found, p50", "ms"),
	figures.AtMost("visible_after_response_p99_ms", "p99", "ms", 1500),
	figures.AtMost("errors_ms_per_million", "errors of one service in 15 minutes, CPU for a million records kept", "ms", 10),
	figures.AtLeast("group_by_million_rows_per_second", "group by source, destination and status with a histogram, million rows a second and core", "", 20),
	figures.Free("paced_edges", "edges that sidecars told, at 20,000 records a second", ""),
	figures.Free("paced_cpu_us", "CPU a record at that pace", "µs"),
	figures.AtMost("paced_resident_peak_mb", "resident memory at most meanwhile", "MB", 400),
}

// write writes hub.json and hub.md.
func write(r *figures.Report, dir string) error {
	return r.Write(dir, "hub", fmt.Sprintf(`# What it costs to keep every request

Written by `+"`make bench-hub`"+`. A mesh-hub takes the records of a small mesh over gRPC:
Bookinfo's services, reviews in three versions, three replicas each, both sides of
each hop, one request in a hundred failing; batches of 1,000 records with the
counters of their edges. CPU is that of the whole process, divided by the records.
Every request that is looked up must have all its records.

Machine: %s, %s. %.0f records.

%s`, r.Machine, r.Time.Format(time.DateOnly), r.Values["records"], r.Table(wanted)))
}
