package netio

import (
	"net"
	"syscall"
)

// Near tells the kernel about a connection whose other end is on this machine,
// as the application's is to its sidecar: there is no path whose capacity would
// have to be found out. The host's congestion control may work hard at that (BBR
// computes a model of the path for each segment, and paces); Reno, which every
// kernel has and allows, hardly does anything as long as nothing is lost. What is
// not a TCP connection, or not near, stays as it is, and so does one whose kernel
// refuses.
func Near(c net.Conn) {
	local, ok := c.LocalAddr().(*net.TCPAddr)
	remote, isTCP := c.RemoteAddr().(*net.TCPAddr)
	if !ok || !isTCP || !remote.IP.IsLoopback() && !remote.IP.Equal(local.IP) {
		return
	}
	socket, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, "reno") // it works without
	})
}
