// Package capture brings a workload's connections to its sidecar without the
// workload knowing: rules in the kernel redirect them, and the sidecar asks the
// kernel where they were meant to go.
//
//	rules.go     what is captured and what is left alone
//	nft.go       the rules as one nftables table
//	iptables.go  the same for iptables and ip6tables
//	apply.go     putting them into the kernel and taking them out
//	original.go  a redirected connection's destination
//
// The sidecar's own connections are told apart by its user, not by a socket
// mark: setting a mark needs CAP_NET_ADMIN for as long as the sidecar runs, while
// a user of its own costs nothing and leaves all privilege with the one command
// that writes the rules. So the sidecar must run as a user that no workload has.
package capture
