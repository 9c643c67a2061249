// Package http2 relays HTTP/2 and gRPC at the level of frames: streams of a
// downstream connection go to streams of shared upstream connections, one by
// one, without a request or a response object between them.
//
// A stream has two halves, one on each connection. What comes in on one half
// goes out on the other. Credit for bytes is given to their sender only when
// they have gone into the other connection's output, so that a slow receiver
// holds at most one stream window of them; an output is filled with DATA only
// while it is nearly empty, whatever windows its peer grants.
//
// Each connection has one goroutine that reads it, and borrows another only
// while its socket takes no more. A reading goroutine handles the frames that one
// read brought and then flushes the connections that they touched; it never
// waits for another connection.
//
// A stream whose upstream speaks HTTP/1 goes over a bridge instead, with two
// goroutines of its own.
//
// Locks are taken in the order stream, pool set, connection. Flushing takes a
// connection's lock and must be called with none held.
package http2
