package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/telemetry-hub/store"
)

// bucketCollector is the record store's bucket.
type bucketCollector struct {
	read  func() (store.RemoteStats, bool)
	descs map[string]*prometheus.Desc
}

// RegisterBucket registers the metrics of a store's bucket; there are none while
// read returns false.
func RegisterBucket(r prometheus.Registerer, read func() (store.RemoteStats, bool)) {
	c := &bucketCollector{read, make(map[string]*prometheus.Desc)}
	desc := func(name, help string, labels ...string) { c.descs[name] = prometheus.NewDesc(name, help, labels, nil) }
	desc(vocab.MetricHubBucketSegments, "Segments in the bucket, of all hubs, that look-ups ask.")
	desc(vocab.MetricHubBucketRecords, "Thin records in them.")
	desc(vocab.MetricHubBucketBytes, "Bytes of them.")
	desc(vocab.MetricHubBucketWaiting, "Segments of this hub that are not in the bucket yet.")
	desc(vocab.MetricHubBucketUploads, "Segments uploaded, by result; what failed is tried again.", vocab.LabelResult)
	desc(vocab.MetricHubBucketTaken, "Logs of lost hubs that this one has sealed.")
	desc(vocab.MetricHubBucketLeader, "1 while this hub drops what retention does not keep in the bucket.")
	desc(vocab.MetricHubBucketUnread, "Segments that look-ups could not read in the bucket.")
	desc(vocab.MetricHubBucketRequests, "Requests to the bucket.", vocab.LabelOperation)
	desc(vocab.MetricHubBucketTraffic, "Bytes read from the bucket and written to it.", vocab.LabelOperation)
	desc(vocab.MetricHubBucketErrors, "Operations on the bucket that failed for good.")
	desc(vocab.MetricHubBucketRetries, "Requests to the bucket that were tried again.")
	desc(vocab.MetricHubBucketDamaged, "Reads of the bucket whose checksum was wrong.")
	desc(vocab.MetricHubBucketCache, "Bytes of the local copy of what was read in the bucket.")
	desc(vocab.MetricHubBucketCached, "Reads answered by the local copy, or not.", vocab.LabelResult)
	r.MustRegister(c)
}

// Describe implements prometheus.Collector.
func (c *bucketCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *bucketCollector) Collect(ch chan<- prometheus.Metric) {
	st, ok := c.read()
	if !ok {
		return
	}
	gauge := func(name string, v float64) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.GaugeValue, v)
	}
	counter := func(name string, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.CounterValue, float64(v), labels...)
	}
	leader := 0.0
	if st.Leader {
		leader = 1
	}
	gauge(vocab.MetricHubBucketSegments, float64(st.Segments))
	gauge(vocab.MetricHubBucketRecords, float64(st.Records))
	gauge(vocab.MetricHubBucketBytes, float64(st.Bytes))
	gauge(vocab.MetricHubBucketWaiting, float64(st.Waiting))
	gauge(vocab.MetricHubBucketLeader, leader)
	gauge(vocab.MetricHubBucketCache, float64(st.Bucket.CacheBytes))
	counter(vocab.MetricHubBucketUploads, int64(st.Uploads), "uploaded")
	counter(vocab.MetricHubBucketUploads, int64(st.UploadFailures), "failed")
	counter(vocab.MetricHubBucketTaken, int64(st.TakenOver))
	counter(vocab.MetricHubBucketUnread, int64(st.ReadFailures))
	counter(vocab.MetricHubBucketRequests, st.Bucket.Gets, "get")
	counter(vocab.MetricHubBucketRequests, st.Bucket.Puts, "put")
	counter(vocab.MetricHubBucketRequests, st.Bucket.Lists, "list")
	counter(vocab.MetricHubBucketRequests, st.Bucket.Deletes, "delete")
	counter(vocab.MetricHubBucketTraffic, st.Bucket.GetBytes, "get")
	counter(vocab.MetricHubBucketTraffic, st.Bucket.PutBytes, "put")
	counter(vocab.MetricHubBucketErrors, st.Bucket.Errors)
	counter(vocab.MetricHubBucketRetries, st.Bucket.Retries)
	counter(vocab.MetricHubBucketDamaged, st.Bucket.Damaged)
	counter(vocab.MetricHubBucketCached, st.Bucket.CacheHits, "hit")
	counter(vocab.MetricHubBucketCached, st.Bucket.CacheMisses, "miss")
}
