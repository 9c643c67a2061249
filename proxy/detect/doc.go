// Package detect tells which protocol an accepted connection speaks, without
// ever keeping a protocol waiting in which the server speaks first.
//
//	classify.go  what a connection's first bytes say
//	hello.go     a ClientHello's server name and protocols
//	watch.go     which end speaks first
//	memory.go    what earlier connections to a destination taught
package detect
