// Package bucket keeps sealed segments, and the log of the segment that is
// still open, in an object store: S3 and what speaks it, or a folder. It is the
// only package that knows github.com/thanos-io/objstore.
//
// # What stands in the bucket
//
//	v1/meta/day=2026-11-21/NAME.json              the segment is whole
//	v1/records/day=2026-11-21/NAME-TAG.parquet    its records
//	v1/index/day=2026-11-21/NAME-TAG.index        their index
//	v1/log/HUB/NUMBER/OFFSET-LENGTH-CRC.chunk     log that no segment holds yet
//	v1/leases/LEASE/TERM.json                     who does what only one should
//
// NAME is END-HUB-FIRST-LAST: the time of the newest record in nanoseconds since
// 1970 (19 digits), the hub whose logs the segment was sealed from and their
// numbers (16 digits each). day is the UTC day of END. So the same logs have the
// same NAME whoever seals them, a listing of some days is a listing of few
// folders, and END is known without reading anything. TAG is the start of the file's SHA-256:
// an upload that is repeated writes the same objects, and two different files
// never share one.
//
// The metas stand apart from what they describe: polling reads one line for each
// segment, and an engine reads `v1/records/*/*.parquet`, with day as a Hive
// partition.
//
// # An upload
//
// Records, then index, then meta, each atomically. Before the meta nobody sees
// the segment; with it, it is whole. A repeated upload does it all again, up to
// a meta that is there. What an upload that was given up has left behind is
// swept by Retention. Deletion is the other way round: the meta first, the rest
// when no hub can still be reading it.
//
// # Reading
//
// Open gives a segment whose index is on the local disk and whose records come
// by range reads of the bucket, through a cache on the local disk. Live keeps
// the segments of the bucket open as hubs add them and retention removes them.
//
// # Two hubs at once
//
// A lease (Lease) is a chain of objects that can each be created only once. It
// saves double work and, where the store refuses to create an object twice, makes
// it impossible; nothing that two holders could do at once loses or doubles a
// record for a hub (docs/adr/018-object-storage.md).
package bucket
