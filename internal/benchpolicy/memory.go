package main

import (
	"fmt"
	"runtime"
	"time"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
	"github.com/telemesh/telemesh/policy-check/lease"
)

// keysPerSecond is how fast new keys come when the hub's memory is measured.
const keysPerSecond = 100_000

// memory has a hub see ever new keys whose buckets fill slower than that, and
// notes what it keeps for each. Keys that were asked for in the last seconds cost
// more than the others; they are in it.
func memory(o options, r *report) error {
	ps, err := limitPolicy("{limit: 5, window: 24h, burst: 5}", `, key: ['request.headers["x-user"]'], maxKeys: 100000000`, "")
	if err != nil {
		return err
	}
	before := heap()
	now := time.Unix(1_700_000_000, 0)
	hub := lease.NewServer(lease.ServerOptions{Clock: func() time.Time { return now }})
	hub.SetPolicies(ps)
	const perPull, askers = 1000, 10
	for pull := range o.keys / perPull {
		req := &policyv1.PullRequest{Sidecar: fmt.Sprint("sidecar-", pull%askers), Epoch: 1, Sequence: uint64(pull/askers + 1)}
		for i := range perPull {
			req.Demands = append(req.Demands, &policyv1.Demand{Limit: limitName, Key: fmt.Sprintf("user-%010d", pull*perPull+i), Want: 1})
		}
		if _, err := hub.Answer(req); err != nil {
			return err
		}
		now = now.Add(perPull * time.Second / keysPerSecond)
	}
	used := heap() - before
	keys := hub.Stats().Limits[0].Keys
	if keys != o.keys/perPull*perPull {
		return fmt.Errorf("the hub holds %d keys of %d", keys, o.keys)
	}
	r.Set("bytes_per_key", used/float64(keys))
	r.Set("keys", float64(keys))
	runtime.KeepAlive(hub)
	return nil
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
