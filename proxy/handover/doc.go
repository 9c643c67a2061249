// Package handover gives a sidecar's listening sockets to the process that
// replaces it, so that an upgrade refuses nobody.
//
// The old process listens on a Unix socket (SOCK_SEQPACKET, mode 0600). The new
// one connects and the two say, one JSON text a message:
//
//	new  {"version":1,"say":"take"}
//	old  {"version":1,"say":"give","service":…,"instance":…,"epoch":…,"sockets":[…]}
//	     with one descriptor for each of the sockets (SCM_RIGHTS), in their order
//	new  {"version":1,"say":"serving"}       its own accept loops run
//	old  {"version":1,"say":"released"}      the Unix socket is the new one's, too
//
// or, from the old one, {"say":"refused","reason":…}. A descriptor that is given
// stands for the same queue of connections as the old process' own, so that the
// two may accept side by side and either may close its own. Until "serving" the
// old process changes nothing: if the new one dies, it goes on.
package handover
