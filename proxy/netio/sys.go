//go:build !race

package netio

import (
	"syscall"
	"unsafe"
)

// RawSyscall tells the scheduler nothing, which is right because a call on a
// non-blocking socket returns at once.

func sysRead(fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return result(n, errno)
}

func sysWrite(fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return result(n, errno)
}

func sysWrite2(fd uintptr, p, q []byte) (int, error) {
	vec := [2]syscall.Iovec{{Base: unsafe.SliceData(p), Len: uint64(len(p))}, {Base: unsafe.SliceData(q), Len: uint64(len(q))}}
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&vec)), 2)
	return result(n, errno)
}

func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
