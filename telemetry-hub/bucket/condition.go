package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/filesystem"
)

// attempt is what is said to and learned from one try. It travels in the
// context: objstore takes no conditions and tells no statuses, but hands its
// context through to the request.
type attempt struct {
	createOnly bool // refuse to replace an object
	status     atomic.Int32
}

type attemptKey struct{}

func attemptOf(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	return a
}

// errExists answers a creation of what is there.
var errExists = errors.New("object exists")

// roundTripper adds the condition of an attempt, and notes the answer's status.
type roundTripper struct{ next http.RoundTripper }

// RoundTrip adds If-None-Match, which S3 signatures need not cover
// (AWS Signature Version 4, "canonical headers"), to the request that writes the
// object.
func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	a := attemptOf(r.Context())
	if a == nil {
		return t.next.RoundTrip(r)
	}
	if a.createOnly && r.Method == http.MethodPut {
		r = r.Clone(r.Context())
		r.Header.Set("If-None-Match", "*")
	}
	resp, err := t.next.RoundTrip(r)
	if err == nil {
		a.status.Store(int32(resp.StatusCode))
	}
	return resp, err
}

// folder is objstore's folder of files with uploads that are atomic, durable
// and, if the attempt says so, refused when the object is there.
type folder struct {
	*filesystem.Bucket
	root string
}

// Upload implements objstore.Bucket.
func (f *folder) Upload(ctx context.Context, name string, r io.Reader, _ ...objstore.ObjectUploadOption) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path := filepath.Join(f.root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// Beside the objects, where no listing of ours looks.
	tmp, err := os.CreateTemp(f.root, ".upload-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // it has moved, or it is litter that its name tells of
	_, err = io.Copy(tmp, r)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if a := attemptOf(ctx); a != nil && a.createOnly {
		err = os.Link(tmp.Name(), path)
		if errors.Is(err, os.ErrExist) {
			a.status.Store(http.StatusPreconditionFailed)
		}
	} else {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// Delete implements objstore.Bucket. Folders stay: removing an empty one races
// with an upload into it.
func (f *folder) Delete(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := os.Remove(filepath.Join(f.root, filepath.FromSlash(name)))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
