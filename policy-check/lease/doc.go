// Package lease spends a limit of the whole mesh without asking for each
// request. The hub holds one bucket per key (Server); a sidecar holds a pocket
// of credits for each key it sees (Client), takes from it locally and pulls more
// in the background. A credit leaves the hub's bucket when it is granted, so a
// limit is exceeded at most by the credits outstanding, which the hub caps.
//
// For any window W, with L the rate, B the burst, h the horizon and N the
// sidecars that hold credits of the key:
//
//	admitted <= L·W + B + L·h + N
//
// which policy.Bucket.Bound computes: at most L·h + N may be outstanding, and
// what is outstanding counts as a part of what the bucket may hold. While demand
// waits, the two together may be a horizon deeper than the burst.
//
// While the hub is away the policy's failurePolicy decides, on top of that. A
// restarted hub begins with full buckets and knows nothing of the credits of the
// one before: policy.Bucket.RestartBound more, in windows that touch the restart
// or the three horizons after it.
//
// Link and Held are the client without goroutines, timers and streams, which
// Client.Run and Client.Take add; package leasesim drives them on a virtual clock.
package lease

import "time"

// DefaultHorizon is how far ahead a sidecar buys credits. With 100 sidecars and
// a moving demand on 10,000 requests per second, 100 ms wastes 1.1 % and exceeds
// the limit by 2.0 % in the worst second (make bench-policy).
const DefaultHorizon = 100 * time.Millisecond

// lifeHorizons is the life of a credit in horizons. It has to outlast a pull
// and a lull; a credit that ends unspent is capacity lost.
const lifeHorizons = 3

// OverflowKey is the bucket that all keys beyond maxKeys share. No key that
// comes from a request's text is a lone NUL.
const OverflowKey = "\x00"
