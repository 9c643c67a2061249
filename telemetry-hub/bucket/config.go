package bucket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/filesystem"
	"github.com/thanos-io/objstore/providers/s3"
	"go.yaml.in/yaml/v3"

	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

// Options of Open. What is zero has the default that it names.
type Options struct {
	// Hub is the name of this hub in metas and leases: letters, digits, dot,
	// hyphen and underscore, no two hubs of a bucket the same. Required.
	Hub string
	// CacheDir is a folder of this process alone, which is created. It may be
	// lost at any time. Required.
	CacheDir string
	// CacheBytes bounds what is in it. 10 GiB.
	CacheBytes int64
	// Reads bounds how many reads of the bucket are under way at once. 16.
	Reads int
	// Attempts bounds the tries of each operation. 4.
	Attempts int
	// AttemptTimeout bounds one try; one that moves bytes has a second more for
	// each MiB. 15 s.
	AttemptTimeout time.Duration
	// Backoff is the wait after the first failure; it doubles, up to 5 s, and
	// half of it is random. 100 ms.
	Backoff time.Duration
	Logger  *slog.Logger     // discards if nil
	Now     func() time.Time // time.Now
}

func (o *Options) setDefaults() {
	def(&o.CacheBytes, 10<<30)
	def(&o.Reads, 16)
	def(&o.Attempts, 4)
	def(&o.AttemptTimeout, 15*time.Second)
	def(&o.Backoff, 100*time.Millisecond)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

func def[T int | int64 | time.Duration](v *T, to T) {
	if *v <= 0 {
		*v = to
	}
}

// block is the YAML block by which Thanos, Mimir and Tempo users name a bucket.
type block struct {
	Type   string    `yaml:"type"`
	Config yaml.Node `yaml:"config"`
	Prefix string    `yaml:"prefix"`
}

// Open opens the bucket that a Thanos YAML block names:
//
//	type: S3              # or FILESYSTEM, with directory: in its config
//	config: {bucket: b, endpoint: s3.eu-central-1.amazonaws.com}
//	prefix: mesh          # optional
//
// Nothing is asked of the bucket yet: one that cannot be reached fails the first
// operation, not the hub's start. An unknown field is an error. Close the bucket
// after all who use it have ended.
func Open(config []byte, o Options) (*Bucket, error) {
	o.setDefaults()
	if err := checkName(o.Hub); err != nil {
		return nil, fmt.Errorf("open bucket: hub: %w", err)
	}
	b := &Bucket{o: o, reads: make(chan struct{}, o.Reads)}
	if err := b.connect(config); err != nil {
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	var err error
	if b.cache, err = openCache(o.CacheDir, o.CacheBytes, &b.stats); err != nil {
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	if b.decoder, err = segment.NewDecoder(); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *Bucket) connect(config []byte) error {
	var c block
	d := yaml.NewDecoder(bytes.NewReader(config))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("configuration: %w", err)
	}
	var store objstore.Bucket
	switch strings.ToUpper(c.Type) {
	case string(objstore.FILESYSTEM):
		inner, err := yaml.Marshal(&c.Config)
		if err != nil {
			return fmt.Errorf("configuration: config: %w", err)
		}
		if store, err = openFolder(inner); err != nil {
			return fmt.Errorf("configuration: config: %w", err)
		}
		b.where = store.Name()
	case string(objstore.S3):
		var err error
		if store, err = b.openS3(&c.Config); err != nil {
			return fmt.Errorf("configuration: config: %w", err)
		}
	case "":
		return errors.New("configuration: type is missing: write type: S3 or type: FILESYSTEM")
	default:
		return fmt.Errorf("configuration: type %s is not built in: use FILESYSTEM, or S3, whose protocol most object stores offer too", c.Type)
	}
	b.store = objstore.NewPrefixedBucket(store, c.Prefix)
	return nil
}

func (b *Bucket) openS3(n *yaml.Node) (objstore.Bucket, error) {
	var fields map[string]any
	if err := n.Decode(&fields); err != nil {
		return nil, err
	}
	if name, _ := fields["bucket"].(string); name == "" {
		return nil, errors.New("bucket is missing: write the name of an S3 bucket that exists")
	}
	// We retry ourselves, with a bound that ctx, counters and logs know of.
	if fields["max_retries"] == nil {
		fields["max_retries"] = 1
	}
	inner, err := yaml.Marshal(fields)
	if err != nil {
		return nil, err
	}
	b.where = fmt.Sprintf("S3 bucket %v at %v", fields["bucket"], fields["endpoint"])
	return s3.NewBucket(log.NewNopLogger(), inner, "telemesh", func(t http.RoundTripper) http.RoundTripper {
		b.transport = t
		return roundTripper{t}
	})
}

// openFolder reads the configuration as Thanos does.
func openFolder(config []byte) (objstore.Bucket, error) {
	var c filesystem.Config
	d := yaml.NewDecoder(bytes.NewReader(config))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if c.Directory == "" {
		return nil, errors.New("directory is missing: write the path of a folder")
	}
	inner, err := filesystem.NewBucket(c.Directory)
	if err != nil {
		return nil, err
	}
	return &folder{Bucket: inner, root: c.Directory}, nil
}
