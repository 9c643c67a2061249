package capture

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"unsafe"
)

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, of
// linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h.
const soOriginalDst = 80

// OriginalDestination asks the kernel where a redirected connection was meant to
// go. It is false for a connection that was not redirected: one that names the
// listener itself as its destination, or that the kernel does not track.
func OriginalDestination(c syscall.Conn) (netip.AddrPort, bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, false
	}
	var original netip.AddrPort
	_ = raw.Control(func(fd uintptr) { // of a closed connection: nothing is found
		local, v6 := localAddress(fd)
		if !local.IsValid() {
			return
		}
		if v6 && !local.Addr().Is4In6() {
			original = originalIPv6(fd)
		} else {
			original = originalIPv4(fd)
		}
		if original == netip.AddrPortFrom(local.Addr().Unmap(), local.Port()) {
			original = netip.AddrPort{}
		}
	})
	return original, original.IsValid() && original.Port() != 0
}

func localAddress(fd uintptr) (_ netip.AddrPort, v6 bool) {
	name, err := syscall.Getsockname(int(fd))
	if err != nil {
		return netip.AddrPort{}, false
	}
	switch a := name.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), false
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), true
	}
	return netip.AddrPort{}, false
}

func originalIPv4(fd uintptr) netip.AddrPort {
	var a syscall.RawSockaddrInet4
	if !option(fd, syscall.SOL_IP, unsafe.Pointer(&a), unsafe.Sizeof(a)) || a.Family != syscall.AF_INET {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), networkOrder(&a.Port))
}

func originalIPv6(fd uintptr) netip.AddrPort {
	var a syscall.RawSockaddrInet6
	if !option(fd, syscall.SOL_IPV6, unsafe.Pointer(&a), unsafe.Sizeof(a)) || a.Family != syscall.AF_INET6 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), networkOrder(&a.Port))
}

func option(fd uintptr, level int, value unsafe.Pointer, size uintptr) bool {
	length := uint32(size)
	_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, uintptr(level), soOriginalDst, uintptr(value), uintptr(unsafe.Pointer(&length)), 0)
	return errno == 0 && uintptr(length) == size
}

func networkOrder(port *uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(port))[:])
}

// IsSelf reports that a destination is one of the listeners, so that connecting
// to it would come back. A listener on every address is met at each of the
// machine's own.
func IsSelf(destination netip.AddrPort, listeners ...netip.AddrPort) bool {
	to := destination.Addr().Unmap()
	for _, l := range listeners {
		switch at := l.Addr().Unmap(); {
		case l.Port() != destination.Port():
		case at == to, to.IsUnspecified() && at.IsLoopback(), at.IsUnspecified() && isOwn(to):
			return true
		}
	}
	return false
}

func isOwn(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(own, func(o net.Addr) bool {
		p, err := netip.ParsePrefix(o.String())
		return err == nil && p.Addr() == a
	})
}
