// Package tcp carries connections whose bytes the sidecar does not understand:
// a captured database connection, TLS that is passed through, what follows an
// HTTP Upgrade or CONNECT. Every connection is one exchange of its own.
//
//	serve.go   one accepted connection: decide, dial, join, observe
//	tunnel.go  the way through another sidecar
//	join.go    two connections joined until both directions have ended
//	splice.go  bytes from socket to socket inside the kernel
package tcp
