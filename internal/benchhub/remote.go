package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/telemesh/telemesh/internal/figures"
	"github.com/telemesh/telemesh/internal/s3server"
	"github.com/telemesh/telemesh/internal/scrape"
	"github.com/telemesh/telemesh/internal/vocab"
)

// fromS3 has the hub upload what it keeps to an S3 server on loopback, and
// measures look-ups of another hub that has nothing of it on its disk but the
// indexes.
func fromS3(ctx context.Context, o options, samples []sample, r *figures.Report) error {
	server, err := s3server.Start(filepath.Join(o.bin, "tools", "versitygw"), filepath.Join(o.dir, "s3"))
	if err != nil {
		return err
	}
	defer server.Stop()
	config := filepath.Join(o.dir, "bucket.yaml")
	if err := os.WriteFile(config, []byte(s3server.Config(server.Address, "mesh")), 0o600); err != nil {
		return err
	}
	records, err := uploadAll(ctx, o, config, r)
	if err != nil {
		return err
	}
	indexes, err := indexBytes(filepath.Join(o.dir, "data", "records"))
	if err != nil {
		return err
	}
	// Room for the indexes, and for so little else that a look-up finds none of it.
	reader, err := startHub(ctx, filepath.Join(o.bin, "mesh-hub"), filepath.Join(o.dir, "reader"), "--bucket-config", config, "--bucket-poll", "1s",
		"--bucket-cache-bytes", fmt.Sprint(indexes+(1<<20)))
	if err != nil {
		return err
	}
	err = wait(ctx, reader, func(p scrape.Page) bool { return p.Sum(vocab.MetricHubBucketRecords, nil) >= records })
	if err == nil {
		err = findRemote(ctx, o, reader, samples, r)
	}
	return errors.Join(err, reader.kill())
}

// indexBytes is the size of the indexes in a folder.
func indexBytes(dir string) (sum int64, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.index"))
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return 0, err
		}
		sum += info.Size()
	}
	return sum, err
}

// uploadAll starts the hub again, with the bucket, until all that is sealed is
// there, and returns how many records that is.
func uploadAll(ctx context.Context, o options, config string, r *figures.Report) (records float64, err error) {
	from := time.Now()
	h, err := startHub(ctx, filepath.Join(o.bin, "mesh-hub"), o.dir, "--bucket-config", config, "--upload-after", "1ms", "--bucket-poll", "1s", "--seal-bytes", fmt.Sprint(o.sealBytes))
	if err != nil {
		return 0, err
	}
	status, err := h.status(ctx)
	records = float64(status.Store.SealedRecords)
	if err == nil {
		err = wait(ctx, h, func(p scrape.Page) bool {
			return p.Sum(vocab.MetricHubBucketRecords, nil) >= records && p.Sum(vocab.MetricHubBucketWaiting, nil) == 0
		})
	}
	r.Set("upload_seconds", time.Since(from).Seconds())
	return records, errors.Join(err, h.kill())
}

// wait waits until a hub's metrics are as they should be.
func wait(ctx context.Context, h *hub, good func(scrape.Page) bool) error {
	for until := time.Now().Add(10 * time.Minute); time.Now().Before(until) && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		p, err := scrape.Get(ctx, h.http)
		if err != nil || good(p) {
			return err
		}
	}
	return errors.New("the bucket has not all that was sealed; the hub's log is above")
}

func findRemote(ctx context.Context, o options, h *hub, samples []sample, r *figures.Report) error {
	reads := func() (float64, error) {
		return scrape.Sum(ctx, h.http, vocab.MetricHubBucketCached, map[string]string{vocab.LabelResult: "miss"})
	}
	before, err := reads()
	if err != nil {
		return err
	}
	samples = samples[:len(samples)*9/10] // the rest may be in the last log
	n := min(max(o.lookUps/3, 1), len(samples))
	var took []float64
	for i := range n {
		d, err := h.lookUp(ctx, samples[i*len(samples)/n])
		if err != nil {
			return err
		}
		took = append(took, d.Seconds()*1000)
	}
	after, err := reads()
	if err != nil {
		return err
	}
	r.Quantiles("find_s3", took)
	r.Set("find_s3_reads", (after-before)/float64(n))
	return nil
}
