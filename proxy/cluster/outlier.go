package cluster

import (
	"sync/atomic"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/identity"
)

// host is what is known of an endpoint while its address stays.
type host struct {
	inFlight atomic.Int64
	latency  latency
	joined   int64 // of the cluster's clock; never for the first ones

	// Failures in a row, by kind. Any other answer begins anew.
	server, gateway, local atomic.Int32

	// Guarded by the cluster's mu.
	peer      *identity.Peer
	ejected   bool
	ejectedAt int64
	inARow    int // ejections, less one for each sweep that found it healthy
}

// judge counts failures in a row and ejects at once when there are enough. A
// request that the downstream gave up says nothing and never comes here.
func (c *Cluster) judge(h *host, o exchange.Outcome) {
	settings := c.settings.Outlier
	status := o.Status
	if o.GRPC > 0 && status < 500 {
		status = httpStatus(o.GRPC - 1)
	}
	if o.Failure != exchange.Success {
		if settings.SplitLocal {
			if count(&h.local, true, settings.ConsecutiveLocal) {
				c.eject(h)
			}
			return
		}
		status = 503
	}
	// Each counter is brought up to date, whichever ejects.
	bad := count(&h.local, false, settings.ConsecutiveLocal)
	bad = count(&h.server, status >= 500, settings.Consecutive5xx) || bad
	bad = count(&h.gateway, status >= 502 && status <= 504, settings.ConsecutiveGateway) || bad
	if bad {
		c.eject(h)
	}
}

// count reports whether the failure is the one that makes limit in a row.
func count(n *atomic.Int32, failure bool, limit int) bool {
	switch {
	case limit == 0:
		return false
	case failure:
		if n.Add(1) != int32(limit) {
			return false
		}
		n.Store(0)
		return true
	case n.Load() != 0: // seldom written, so seldom moved between cores
		n.Store(0)
	}
	return false
}

// httpStatus is the HTTP status that Envoy's outlier detection reads out of a
// gRPC status.
func httpStatus(grpc uint32) int {
	table := [...]int{200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401}
	if int(grpc) >= len(table) {
		return 500
	}
	return table[grpc]
}

// eject leaves an endpoint out, unless too many are out already.
func (c *Cluster) eject(h *host) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	c.sweepLocked(now) // the sweeps that are due come first
	s := c.current.Load()
	out, known := 0, false
	for _, m := range s.all {
		known = known || m.host == h
		if m.host.ejected {
			out++
		}
	}
	settings := c.settings.Outlier
	fits := (out+1)*100 <= settings.MaxPercent*len(s.all)
	if !known || h.ejected || !fits && (out > 0 || settings.KeepFirst) {
		return
	}
	h.ejected, h.ejectedAt = true, now
	if settings.ejection(h.inARow) < settings.ejection(h.inARow+1) || h.inARow == 0 {
		h.inARow++ // no higher than has an effect, or it would take long to fall
	}
	c.ejections.Add(1)
	c.schedule(now)
	c.rebuild(s.all)
}

// schedule plans the next sweep. The caller holds mu.
func (c *Cluster) schedule(now int64) {
	interval := int64(c.settings.Outlier.Interval)
	c.nextSweep.Store(c.epoch + ((now-c.epoch)/interval+1)*interval)
}

func (c *Cluster) sweep(now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweepLocked(now)
}

// maxSweeps bounds the sweeps made up for at once. More are due only if the
// interval is below a tenth of a second and nothing was sent for minutes.
const maxSweeps = 4096

// sweepLocked does the sweeps that are due: it brings back whose time is over
// and lowers the multiplier of who was fine. There is no timer behind it: a
// cluster without requests needs no sweep, and the first request makes up for
// those that it missed, each at its own time.
func (c *Cluster) sweepLocked(now int64) {
	at := c.nextSweep.Load()
	if now < at {
		return
	}
	interval := int64(c.settings.Outlier.Interval)
	at = max(at, now-maxSweeps*interval)
	all := c.current.Load().all
	changed, trouble := false, true
	for ; at <= now && trouble; at += interval {
		trouble = false
		for _, m := range all {
			changed = c.inspect(m.host, at) || changed
			trouble = trouble || m.host.ejected || m.host.inARow > 0
		}
	}
	if trouble {
		c.schedule(now)
	} else {
		c.nextSweep.Store(never)
	}
	if changed {
		c.rebuild(all)
	}
}

// inspect is one sweep's look at one endpoint. It reports whether that comes
// back.
func (c *Cluster) inspect(h *host, at int64) bool {
	if !h.ejected {
		if h.inARow > 0 {
			h.inARow--
		}
		return false
	}
	if at-h.ejectedAt < int64(c.settings.Outlier.ejection(h.inARow)) {
		return false
	}
	h.ejected = false
	h.server.Store(0)
	h.gateway.Store(0)
	h.local.Store(0)
	return true
}
