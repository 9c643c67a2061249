package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/telemesh/telemesh/internal/procstat"
	"github.com/telemesh/telemesh/policy-check/lease"
)

// hubCost has sidecars ask a real mesh-hub over gRPC in real time.
func hubCost(ctx context.Context, o options, r *report) error {
	return withHub(ctx, o.bin, func(address string, pid int) error { return ask(ctx, o, r, address, pid) })
}

// sidecarWindow is that of a sidecar's connection. Fixed windows save a ping for
// each message, which would measure whether they should grow.
const sidecarWindow = 1 << 20

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
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithStaticStreamWindowSize(sidecarWindow), grpc.WithStaticConnWindowSize(sidecarWindow))
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
