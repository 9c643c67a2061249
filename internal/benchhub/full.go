package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/telemesh/telemesh/internal/scrape"
	"github.com/telemesh/telemesh/internal/vocab"
)

const (
	smallDisk = "size=24m"
	largeDisk = "size=512m"
)

// full has a hub run out of disk under load and gives it room again. It must say
// so and answer meanwhile, senders keep what it did not take, and afterwards
// every record must be there once. The disk is a tmpfs, which needs root.
func full(ctx context.Context, o options) (err error) {
	disk := filepath.Join(o.dir, "disk")
	if err := os.MkdirAll(disk, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, smallDisk); err != nil {
		return fmt.Errorf("mount a small disk at %s: %w; this needs root", disk, err)
	}
	defer func() { err = errors.Join(err, syscall.Unmount(disk, 0)) }()
	o.dir = disk
	k, err := newKiller(o)
	if err != nil {
		return err
	}
	h, err := k.start(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(k.fill(ctx, h), syscall.Mount("", disk, "", syscall.MS_REMOUNT, largeDisk)); err != nil {
		return errors.Join(err, h.kill())
	}
	fmt.Println("the disk has room again")
	if err := k.drain(ctx, h); err != nil {
		return errors.Join(err, h.kill())
	}
	if err := k.count(ctx, h); err != nil {
		return errors.Join(err, h.kill())
	}
	if err := h.kill(); err != nil {
		return err
	}
	// And after a crash. Prometheus' database leaves a torn page behind when its
	// disk is full, which it finds and repairs when it is opened.
	k.tolerated = 1
	return k.verify(ctx)
}

// fill sends until the hub has refused batches for some seconds.
func (k *killer) fill(ctx context.Context, h *hub) error {
	var since time.Time
	for until := time.Now().Add(time.Minute); ; {
		s, err := k.connect(ctx, h, k.mesh.Senders)
		if err != nil {
			return err
		}
		for range 20 {
			k.load(s)
		}
		s.close()
		refused, err := scrape.Sum(ctx, h.http, vocab.MetricHubRejected, map[string]string{vocab.LabelReason: "storage"})
		if err != nil {
			return fmt.Errorf("the hub does not answer while its disk is full: %w", err)
		}
		switch {
		case refused == 0 && time.Now().After(until):
			return errors.New("the disk is not full after a minute")
		case refused == 0:
		case since.IsZero():
			since = time.Now()
			fmt.Printf("the disk is full after %d records\n", k.records)
		case time.Since(since) > 3*time.Second:
			status, err := h.status(ctx)
			if err != nil {
				return err
			}
			fmt.Printf("%.0f times batches were refused, the hub has %d of %d records and %d corruptions\n", refused, status.Store.Records, k.records, status.Store.Corruptions)
			return nil
		}
	}
}

// drain sends what waits until all of it is acknowledged.
func (k *killer) drain(ctx context.Context, h *hub) error {
	for until := time.Now().Add(time.Minute); k.waiting() > 0; {
		s, err := k.connect(ctx, h, k.mesh.Senders)
		if err != nil {
			return err
		}
		for end := time.Now().Add(2 * time.Second); k.waiting() > 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		}
		s.close()
		if time.Now().After(until) {
			return fmt.Errorf("%d batches are not acknowledged a minute after there was room", k.waiting())
		}
	}
	return nil
}
