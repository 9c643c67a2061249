// Package sql answers queries over sealed segments in a subset of SQL, for who
// has no other engine at hand.
//
// There is one table, records, with the columns of package segment by their
// names in the file; attributes['key'] is an attribute or null, and attributes
// the whole as a JSON object. trace_id, span_id and parent_span_id are texts: a
// UUID and 16 hexadecimal digits.
//
//	SELECT expressions [AS name] | * FROM records
//	[WHERE …] [GROUP BY expressions | ALL] [HAVING …]
//	[ORDER BY … [DESC] [NULLS FIRST | LAST]] [LIMIT n] [OFFSET n]
//
// Expressions have + - * / // % ||, comparisons, AND, OR, NOT, IN (list), LIKE,
// ILIKE, BETWEEN, IS NULL, CAST and ::, interval '15 minutes', timestamp '…',
// the functions of the table in functions.go, and the aggregates count, sum, min,
// max, avg, quantile, quantile_cont, each with FILTER (WHERE …), and
// count(DISTINCT x). GROUP BY and ORDER BY take names and numbers of columns.
//
// Meaning is that of DuckDB: / gives a double, null comes last in any order,
// quantile(x, q) is the least value that the share q of all is not above. Other
// than there a division by zero is null always, a sum of integers that does not
// fit 64 bits is an error, and times have nanoseconds. Quantiles are exact up to
// a million values and beyond that from a histogram, which the result says.
//
// Conditions that WHERE joins by AND are handed to the scan of the segments
// where it knows them: on start, source_canonical_service,
// destination_canonical_service, protocol, least code and duration, and the
// beginning of path. trace_id = and request_id = are looked up in the index. Rows
// are then computed a row group at a time, column by column.
//
// A Query may be run any number of times, also concurrently.
package sql
