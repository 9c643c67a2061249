package vocab

// Triggers: why a sidecar sent the thick detail of a request.
const (
	TriggerError  = "error"  // 5xx, no response, or a gRPC status that is the server's fault
	TriggerFlag   = "flag"   // a response flag
	TriggerDenied = "denied" // denied or throttled by policy
	TriggerRetry  = "retry"  // more than one attempt
	TriggerSlow   = "slow"   // slower than the edge's 99th percentile
	TriggerOrder  = "order"  // the hub asked for it
)

// Reasons for which an order brings no detail, and for which one stays in the
// ring although a trigger asked for it.
const (
	NoDetailRingOff    = "ring_off"     // the sidecar keeps none (--detail-bytes 0)
	NoDetailNotInRing  = "not_in_ring"  // too old by now, or not yet ended
	NoDetailBudget     = "order_budget" // too much was ordered within a second
	NoDetailEdgeBudget = "edge_budget"  // the edge's share of a second is spent
	NoDetailAllBudget  = "total_budget" // all edges' share of a second is spent
	NoDetailQueueFull  = "queue_full"   // the hub is away, or slower than the details
)
