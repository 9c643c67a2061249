package capture

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"slices"
)

// VirtualNet is where the virtual addresses of services are: a range that the
// Internet does not route (RFC 1112, section 4), so that none of them is anybody's.
var VirtualNet = netip.MustParsePrefix("240.0.0.0/5")

// IsVirtual reports whether an address is a service's, not a machine's: nobody
// can be reached there.
func IsVirtual(a netip.Addr) bool { return VirtualNet.Contains(a.Unmap()) }

// VirtualAddresses gives each fully qualified service name an address in
// VirtualNet. Programs whose names resolve to them say by the original
// destination which service they mean, even if their bytes do not. Whoever knows
// the same services computes the same addresses, so nobody has to hand them out;
// a new service moves another one's address only in a collision, at 1,000
// services with a chance of 0.4 %.
func VirtualAddresses(hosts []string) map[string]netip.Addr {
	hosts = slices.Clone(hosts)
	slices.Sort(hosts)
	size := uint32(1) << (32 - VirtualNet.Bits())
	first := binary.BigEndian.Uint32(VirtualNet.Addr().AsSlice())
	out := make(map[string]netip.Addr, len(hosts))
	taken := make(map[uint32]bool, len(hosts))
	for _, host := range slices.Compact(hosts) {
		h := fnv.New32a()
		h.Write([]byte(host)) // never fails
		at := h.Sum32() % size
		for taken[at] || at == 0 {
			at = (at + 1) % size
		}
		taken[at] = true
		out[host] = netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, first+at)))
	}
	return out
}
