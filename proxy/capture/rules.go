package capture

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Rules say what is captured. Connections within the host or pod, over loopback
// or to an address of its own, are never captured.
type Rules struct {
	// InboundPort and OutboundPort are the sidecar's listeners; 0 captures
	// nothing in that direction. The outbound listener may be bound to 127.0.0.1
	// (and ::1), the inbound one must be bound to every address, because the
	// kernel redirects to loopback only what begins on this machine.
	InboundPort, OutboundPort uint16
	// ExcludeUIDs are users whose connections are left alone: the sidecar's. Empty
	// only where the sidecar connects from another network namespace; elsewhere
	// its own connections would come back to it.
	ExcludeUIDs []uint32
	// ExcludeInboundPorts are left alone beside ReservedPorts.
	ExcludeInboundPorts  []uint16
	ExcludeOutboundPorts []uint16
	// ExcludeCIDRs are destinations that are left alone.
	ExcludeCIDRs []netip.Prefix
	// IncludeCIDRs, if not empty, are the only destinations captured.
	IncludeCIDRs []netip.Prefix
	// IPv6 captures IPv6 too; otherwise all of it is left alone.
	IPv6 bool
}

// ReservedPorts are the sidecar's own, on the numbers that Istio's users know:
// admin, outbound, inbound, merged metrics, health and Envoy's metrics.
// Connections to them are never captured on their way in.
var ReservedPorts = []uint16{15000, 15001, 15006, 15020, 15021, 15090}

// DefaultUID is the user that Istio's users know as the sidecar's.
const DefaultUID = 1337

// Validate reports every field that is wrong.
func (r *Rules) Validate() error {
	var errs []error
	if r.InboundPort == 0 && r.OutboundPort == 0 {
		errs = append(errs, errors.New("nothing to capture: both ports are 0"))
	}
	if r.InboundPort != 0 && r.InboundPort == r.OutboundPort {
		errs = append(errs, fmt.Errorf("inbound and outbound port are both %d", r.InboundPort))
	}
	for _, p := range slices.Concat(r.ExcludeCIDRs, r.IncludeCIDRs) {
		if !p.IsValid() {
			errs = append(errs, errors.New("an invalid CIDR"))
		}
	}
	return errors.Join(errs...)
}

// inboundLeftAlone are the ports that are not captured on their way in.
func (r *Rules) inboundLeftAlone() []uint16 {
	return ordered(slices.Concat(ReservedPorts, []uint16{r.InboundPort}, r.ExcludeInboundPorts))
}

func ordered[T uint16 | uint32](in []T) []T {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

// family picks the prefixes of one address family, without those that another
// one covers: nftables refuses overlaps.
func family(in []netip.Prefix, v6 bool) []netip.Prefix {
	var all, out []netip.Prefix
	for _, p := range in {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p.Addr().Is6() == v6 {
			all = append(all, p.Masked())
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		if a.Bits() != b.Bits() {
			return a.Bits() - b.Bits()
		}
		return a.Addr().Compare(b.Addr())
	})
	for _, p := range all {
		if !slices.ContainsFunc(out, func(wider netip.Prefix) bool { return wider.Contains(p.Addr()) }) {
			out = append(out, p)
		}
	}
	return out
}
