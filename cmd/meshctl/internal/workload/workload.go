// Package workload runs a program behind a sidecar: the sidecar is started
// first, the program gets the proxy environment, and both end together.
package workload

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/telemesh/telemesh/cmd/meshctl/internal/pod"
	"github.com/telemesh/telemesh/internal/process"
)

// Spec is one workload.
type Spec struct {
	Service, Version, Namespace string
	// Port of the program on 127.0.0.1; 0 chooses a free one, -1 means that the
	// program only calls.
	Port int
	// ServicePort under which callers know it; 0 means Port.
	ServicePort int
	// OutboundTCP are ports on the program's loopback for what is not HTTP, each
	// PORT=SERVICE:PORT.
	OutboundTCP []string
	// Hub is the hub's gRPC address.
	Hub string
	// Pod is the program's own network, in which its connections are captured; nil
	// for a program that is told of its sidecar in the environment.
	Pod *pod.Pod
	// Dir holds the sidecar's address file and last known configuration.
	Dir string
	// Log receives the sidecar's output.
	Log io.Writer
}

// Sidecar is a running sidecar. It keeps its addresses over restarts, because
// the program knows the outbound one from its environment.
type Sidecar struct {
	spec                     Spec
	binary                   string
	Inbound, Outbound, Admin string
	Instance                 string
	process                  *process.Process
}

// StartSidecar starts the sidecar of a workload and waits until it listens.
func StartSidecar(ctx context.Context, s Spec) (*Sidecar, error) {
	binary, err := process.Binary("mesh-proxy")
	if err != nil {
		return nil, err
	}
	const any = "127.0.0.1:0"
	c := &Sidecar{spec: s, binary: binary, Inbound: any, Outbound: any, Admin: any}
	if s.Pod != nil {
		c.Outbound = pod.OutboundAddress
	}
	return c, c.Start(ctx)
}

// Start starts the sidecar, again on the addresses it had.
func (c *Sidecar) Start(ctx context.Context) error {
	s := c.spec
	file := filepath.Join(c.spec.Dir, s.Service+"-"+s.Version+".addresses.json")
	_ = os.Remove(file) // of an earlier run
	args := []string{
		"--service", s.Service, "--version", s.Version, "--namespace", s.Namespace, "--hub", s.Hub,
		"--inbound-address", c.Inbound, "--outbound-address", c.Outbound, "--admin-address", c.Admin,
		"--state-dir", s.Dir, "--address-file", file,
	}
	if s.Port > 0 {
		app := net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))
		if s.Pod != nil {
			app = net.JoinHostPort(s.Pod.Address.String(), strconv.Itoa(s.Port))
		}
		args = append(args, "--app-address", app, "--service-port", strconv.Itoa(s.ServicePort))
	}
	if s.Pod != nil {
		args = append(args, "--outbound-netns", s.Pod.Path())
	}
	for _, one := range s.OutboundTCP {
		args = append(args, "--outbound-tcp", one)
	}
	var err error
	c.process, err = process.Start(process.Spec{Name: "sidecar of " + s.Service + "-" + s.Version, Path: c.binary, Args: args, Output: s.Log})
	if err != nil {
		return err
	}
	addresses, err := c.process.Addresses(ctx, file)
	if err != nil {
		c.process.Stop(time.Second)
		return err
	}
	c.Inbound, c.Outbound, c.Admin, c.Instance = addresses["inbound"], addresses["outbound"], addresses["admin"], addresses["instance"]
	return nil
}

// Process is the running sidecar process.
func (c *Sidecar) Process() *process.Process { return c.process }

// Stop ends the sidecar; it drains and flushes first.
func (c *Sidecar) Stop() { c.process.Stop(10 * time.Second) }

// Environment is what the program behind the sidecar needs to call through it.
func (c *Sidecar) Environment() []string {
	env := []string{"TELEMESH_SERVICE=" + c.spec.Service, "TELEMESH_VERSION=" + c.spec.Version, "SERVICE_VERSION=" + c.spec.Version}
	if c.spec.Pod == nil {
		proxy := "http://" + c.Outbound
		env = append(env, "HTTP_PROXY="+proxy, "http_proxy="+proxy, "NO_PROXY=localhost,127.0.0.1,::1", "no_proxy=localhost,127.0.0.1,::1")
	}
	if c.spec.Port > 0 {
		env = append(env, "PORT="+strconv.Itoa(c.spec.Port))
	}
	return env
}

// FreePort chooses a port that nobody uses now, from outside the range that the
// system hands out by itself: the sidecars, which listen on port 0, must not
// get it in the moment before the program binds it.
func FreePort() (int, error) {
	first, last := fixedRange()
	var err error
	for range 100 {
		port := first + rand.IntN(last-first+1)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a free port from %d to %d: %w", first, last, err)
}

// fixedRange is the wider of the two ranges beside the ephemeral one (ip(7),
// ip_local_port_range).
func fixedRange() (first, last int) {
	low, high := 32768, 60999
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if _, err := fmt.Sscan(string(b), &low, &high); err != nil {
			low, high = 32768, 60999
		}
	}
	const lowest, highest = 10240, 65535
	if low-lowest > highest-high {
		return lowest, low - 1
	}
	return high + 1, highest
}
