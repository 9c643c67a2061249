// Package segment writes, opens, searches and verifies sealed segments: the
// records of some minutes as a Parquet file that any engine can query, and an
// index file beside it that finds a request with one read.
//
// A Builder takes decoded batches and seals them; Merge makes one segment of
// several, of all their records or of those worth keeping longer; Open gives a
// Segment, with Find by trace or request ID, Scan by service, status, latency
// and time, Aggregates from the index alone, and Verify. A segment is never
// changed.
//
// # The Parquet file
//
// Plain Parquet, format version 2, of flat columns and one map. A row group has
// up to 8,192 rows and each column in it one v1 data page, behind a dictionary
// page if it has one. Every page header has its CRC. Inside a sealing window of
// 262,144 rows those of a trace stand together, by hop, and the traces by their
// first start; from window to window rows are ordered only by time of arrival.
// No reader may count on an order: it has changed within a schema version.
//
//	column kind                 stored as
//	time, integers              INT64, DELTA_BINARY_PACKED, not compressed
//	code, attempts              INT32, dictionary, not compressed
//	grpc_status                 optional INT32, dictionary; null if not gRPC
//	sampled                     BOOLEAN, plain, zstd
//	trace_id                    FIXED_LEN_BYTE_ARRAY(16) UUID, dictionary, not compressed
//	span_id, parent_span_id     FIXED_LEN_BYTE_ARRAY(8), plain, not compressed
//	texts                       BYTE_ARRAY UTF8, dictionary, zstd
//	attributes                  MAP: required group, repeated key_value of required
//	                            key and value, dictionary, zstd
//
// start is a timestamp in nanoseconds UTC, durations are in nanoseconds, sizes
// in bytes. Names are those of the Column constants. request_id is empty where
// it is the UUID form of trace_id. Integers that do not fit their signed type
// are cut at its greatest value, texts that are not UTF-8 have U+FFFD for what
// is not, and of a record's attributes the first 128 by name are kept. The
// metadata has the keys telemesh.schema, the version of the table, and
// telemesh.writer. A reader finds columns by name; one that an older file lacks
// is empty.
//
// # The index file
//
// Little-endian; uvarint and varint are those of Protocol Buffers (varint is
// zigzag); a text is uvarint(length) and its bytes; CRCs are CRC-32C.
//
//	header   "TMSEGIDX" version(4)=1 parts(4) seed(8) rows(8)
//	         size(8)     of the Parquet file
//	         footer(8)   offset of the Parquet metadata
//	         crc(4)      of the Parquet file from footer to its end
//	         groups(4)   row groups
//	         (kind(4) crc(4) offset(8) length(8))*parts
//	         crc(4)      of all of the above
//	parts, without gaps, in the order of the header; unknown kinds are passed over
//	1 schema       uvarint(schema version) uvarint(columns) (text kind(1))*
//	2 groups       one entry of fixed length for each row group:
//	               offset(8) rows(4) flags(4): bit 0, a request in it failed
//	               min start(8) max start(8) max duration(8) max code(8)
//	               for each column in order of the schema:
//	               dictionary page(4) data page(4) crc(4): lengths with page headers,
//	               the pages stand one behind the other; the top bit of the second
//	               says zstd; crc is of both pages
//	               crc(4) of the entry
//	3 fences       the first entry of each block of part 4, 8 bytes each
//	4 hashes       blocks of 4,096 bytes, the last shorter:
//	               crc(4) of the rest, entries(4), up to 511 entries of 8 bytes,
//	               ascending over the whole part:
//	               hash(40 bits, high) row group(24 bits, low)
//	5 services     uvarint(names) text*, then for each row group three bitmaps of
//	               ceil(names/8) bytes: sources, destinations, destinations of which
//	               a request failed; no names means nothing is known
//	6 aggregates   uvarint(texts) text*
//	               uvarint(edges) (17 uvarints, places among the texts)*
//	               uvarint(cells) cell*
//	cell           varint(minute since 1970 above the cell before) uvarint(edge)
//	               uvarint: requests, errors, client errors, denied, throttled,
//	               bytes in, bytes out
//	               uvarint(buckets) (uvarint(index above the one before) uvarint(count))*
//
// The hash of a trace ID is the upper 40 bits of XXH64 of its 16 bytes with the
// header's seed, that of a request ID the same of its text with seed+1. The 17
// texts of an edge are the columns from reporter to connection_security_policy
// without the two instances, then the protocol. Buckets are those of package
// histogram.
//
// # Damage
//
// Whatever is read has a checksum over it, so a flipped bit is noticed when the
// column or block that holds it is read, named, and costs that: a column of a
// row group, a row group's entry, or speed (without hashes a look-up reads all
// row groups). Verify reads everything and compares the index with the records;
// Reindex makes an index of the Parquet file alone.
package segment
