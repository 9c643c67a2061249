//go:build race

package netio

import "syscall"

// The race detector follows data through sockets only in package syscall's own
// calls.

func sysRead(fd uintptr, p []byte) (int, error)  { return syscall.Read(int(fd), p) }
func sysWrite(fd uintptr, p []byte) (int, error) { return syscall.Write(int(fd), p) }

func sysWrite2(fd uintptr, p, _ []byte) (int, error) { return syscall.Write(int(fd), p) }
