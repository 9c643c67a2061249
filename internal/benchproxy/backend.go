package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// A backend that costs as little as it can, so that the load side is not what
// is measured. It prints its address and serves until it is killed.

const bodyBytes = 1024

// serveHTTP1 answers every request head with the same 1 KiB, from one epoll
// loop. It reads no bodies: the load has none.
func serveHTTP1() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	answer := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: backend\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", bodyBytes, strings.Repeat("x", bodyBytes)))
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	poll, err := syscall.EpollCreate1(0)
	if err != nil {
		return err
	}
	listener := int(file.Fd())
	if err := watch(poll, listener); err != nil {
		return err
	}
	events := make([]syscall.EpollEvent, 256)
	for {
		n, err := syscall.EpollWait(poll, events, -1)
		if err != nil && err != syscall.EINTR {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == listener {
				acceptOne(poll, listener)
				continue
			}
			answerAll(int(e.Fd), answer)
		}
	}
}

func watch(poll, fd int) error {
	return syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)})
}

func acceptOne(poll, listener int) {
	c, _, err := syscall.Accept4(listener, syscall.SOCK_NONBLOCK)
	if err != nil {
		return
	}
	_ = syscall.SetsockoptInt(c, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	if watch(poll, c) != nil {
		_ = syscall.Close(c)
	}
}

func answerAll(fd int, answer []byte) {
	var buf [16 << 10]byte
	n, err := syscall.Read(fd, buf[:])
	if err == syscall.EAGAIN {
		return
	}
	if err != nil || n == 0 {
		_ = syscall.Close(fd)
		return
	}
	for range bytes.Count(buf[:n], []byte("\r\n\r\n")) {
		_, _ = syscall.Write(fd, answer) // a load generator that left needs no answer
	}
}

// raw passes messages through without decoding them.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) { return *v.(*mem.BufferSlice), nil }

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	data.Ref()
	*v.(*mem.BufferSlice) = data
	return nil
}

// serveGRPC echoes one message of any method.
func serveGRPC() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	s := grpc.NewServer(grpc.ForceServerCodecV2(encoding.CodecV2(raw{})), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		for {
			var m mem.BufferSlice
			if err := stream.RecvMsg(&m); err != nil {
				return nil //nolint:nilerr // the caller has ended its stream
			}
			if err := stream.SendMsg(&m); err != nil {
				return err
			}
		}
	}))
	return s.Serve(l)
}

// message is a gRPC message of 1 KiB as h2load sends it.
func message(file string) error {
	b := make([]byte, 5+bodyBytes)
	b[3], b[4] = bodyBytes>>8, bodyBytes&0xff
	return os.WriteFile(file, b, 0o600)
}
