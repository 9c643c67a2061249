package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
	"github.com/telemesh/telemesh/internal/procstat"
	"github.com/telemesh/telemesh/policy-check/lease"
)

// serve is the hub of hubCost, in a process of its own: it grants credits, says
// where, and ends with its standard input.
func serve(ctx context.Context) error {
	ps, err := limitPolicy(scenario{limit: bigLimit}.rate(), "", "")
	if err != nil {
		return err
	}
	hub := lease.NewServer(lease.ServerOptions{})
	hub.SetPolicies(ps)
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	policyv1.RegisterLeaseServiceServer(server, hub)
	fmt.Println(l.Addr())
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		server.Stop()
	}()
	return server.Serve(l)
}

// hubCost has sidecars ask a hub over gRPC in real time.
func hubCost(ctx context.Context, o options, r *report) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	hub := exec.CommandContext(ctx, self, "hub")
	hub.Stderr = os.Stderr
	out, err := hub.StdoutPipe()
	if err != nil {
		return err
	}
	in, err := hub.StdinPipe()
	if err != nil {
		return err
	}
	if err := hub.Start(); err != nil {
		return err
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		err = ask(ctx, o, r, strings.TrimSpace(addr), hub.Process.Pid)
	}
	return errors.Join(err, in.Close(), hub.Wait())
}

// ask runs the sidecars and notes the hub's CPU.
func ask(ctx context.Context, o options, r *report, addr string, pid int) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ps, err := limitPolicy(scenario{limit: bigLimit}.rate(), "", "")
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	var clients []*lease.Client
	for i := range sidecars {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		c := lease.NewClient(lease.ClientOptions{Sidecar: fmt.Sprint("sidecar-", i)})
		c.Configure(ps[0].AllBuckets())
		clients = append(clients, c)
		running.Go(func() {
			_ = c.Run(ctx, conn) // always nil
			_ = conn.Close()
		})
	}
	for _, c := range clients {
		for !c.Connected() {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Millisecond):
			}
		}
	}
	var each []float64
	for round := range 3 {
		before, err := procstat.CPU(pid)
		if err != nil {
			return err
		}
		requests, admitted := load(ctx, o, o.seed+uint64(round), clients)
		after, err := procstat.CPU(pid)
		if err != nil {
			return err
		}
		if admitted == 0 {
			return errors.New("the hub admitted nothing in real time: run this on a machine that is less busy")
		}
		each = append(each, (after-before).Seconds()*1e6/float64(requests))
	}
	r.Set("hub_ms_per_1000_requests", each...)
	stop()
	running.Wait()
	return nil
}

// load sends the demand of the simulation, whose total changes faster here, and
// counts.
func load(ctx context.Context, o options, seed uint64, clients []*lease.Client) (requests, admitted int64) {
	var ok atomic.Int64
	var waiting sync.WaitGroup
	demand := newDemand(seed, sidecars, bigLimit, 10*time.Second)
	faster := float64(simulated) / float64(o.pace)
	begin := time.Now()
	const tick = 5 * time.Millisecond
	for now := time.Duration(0); now < o.pace && ctx.Err() == nil; now += tick {
		time.Sleep(time.Until(begin.Add(now)))
		demand.at(time.Duration(float64(now)*faster), tick, func(sidecar int) {
			requests++
			// Only who has to wait needs a goroutine.
			limit := clients[sidecar]
			t, held := limit.Ask(limitName, "")
			if held == nil {
				if t.OK {
					ok.Add(1)
				}
				return
			}
			waiting.Go(func() {
				if held.Wait(ctx).OK {
					ok.Add(1)
				}
			})
		})
	}
	waiting.Wait()
	return requests, ok.Load()
}
