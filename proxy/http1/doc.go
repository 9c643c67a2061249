// Package http1 relays HTTP/1.0 and HTTP/1.1: one goroutine for a downstream
// connection drives both sides of each of its requests. Heads go on byte for
// byte, with their order and their spelling, less what belongs to one hop.
//
// It is strict where two readers of the same bytes could see two requests
// (RFC 9112, section 11.2): what net/http or an application might repair is
// refused here, answered with 400, counted, and the connection closed.
//
//	head.go      request and status lines, what fields mean
//	fieldline.go the lines of the fields
//	chunk.go     chunked bodies
//	header.go    the handler's view of a head, and writing it out
//	conn.go      a downstream connection from request to request
//	forward.go   one request: attempts, body, answer
//	attempt.go   how one attempt went
//	answer.go    the answer's way back, and the sidecar's own answers
//	pool.go      upstream connections
//	sweep.go     what waits too long
//	tunnel.go    CONNECT and Upgrade
package http1
