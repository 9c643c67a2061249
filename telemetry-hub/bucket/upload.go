package bucket

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

// Upload puts the sealed segment at path, and the index beside it, into the
// bucket, and returns what its meta says. Once it returns without an error the
// segment is whole there and the local files may go. After an error, or a crash
// at any point, it is repeated; a repetition of one that had ended changes
// nothing.
//
// log is where the records come from. If a segment of the same logs and end is
// whole already, from whoever uploaded it, that one counts and is returned. Two
// hubs that seal the same logs therefore make one segment of them. A segment that
// joins others which are in the bucket already would have their records twice, so
// segments are joined before they are uploaded.
func (b *Bucket) Upload(ctx context.Context, path string, log Log) (Meta, error) {
	m, err := b.describe(path, log)
	if err != nil {
		return Meta{}, fmt.Errorf("upload segment %s: %w", path, err)
	}
	if m, err = b.upload(ctx, path, m); err != nil {
		return Meta{}, fmt.Errorf("upload segment %s: %w", path, err)
	}
	return m, nil
}

// describe reads the files of a segment and makes its meta.
func (b *Bucket) describe(path string, log Log) (Meta, error) {
	if err := checkName(log.Hub); err != nil {
		return Meta{}, fmt.Errorf("hub: %w", err)
	}
	if log.First > log.Last {
		return Meta{}, fmt.Errorf("logs %d to %d: want the first before the last", log.First, log.Last)
	}
	m := Meta{Version: metaVersion, Log: log, Writer: b.o.Hub, Uploaded: b.o.Now().UTC()}
	index, err := os.Open(segment.IndexPath(path))
	if err != nil {
		return m, fmt.Errorf("%w: segment.Reindex makes the index of the Parquet file", err)
	}
	defer index.Close()
	data, err := os.Open(path)
	if err != nil {
		return m, err
	}
	defer data.Close()
	info, err := data.Stat()
	if err != nil {
		return m, err
	}
	if m.Index, err = digest(index); err != nil {
		return m, err
	}
	if m.Records, err = digest(data); err != nil {
		return m, err
	}
	s, err := segment.Open(segment.LocalRange{R: data}, index, m.Index.Bytes, segment.Options{Name: path, Decoder: b.decoder})
	if err != nil {
		return m, err
	}
	if err := errors.Join(s.Damaged()...); err != nil {
		return m, err
	}
	if s.Size() != m.Records.Bytes || s.Rows() == 0 {
		return m, fmt.Errorf("the index is of %d records in %d bytes, the file has %d bytes: is it another's, or the segment empty?", s.Rows(), s.Size(), m.Records.Bytes)
	}
	m.Rows, m.Schema = s.Rows(), s.SchemaVersion()
	m.MinStart, m.MaxStart = s.Span()
	m.End = max(min(m.MaxStart, info.ModTime().UnixNano()), 0)
	n := m.name()
	m.Records.Name, m.Index.Name = n.records(m.Records.SHA256[:tagDigits]), n.index(m.Index.SHA256[:tagDigits])
	return m, nil
}

func digest(f *os.File) (Object, error) {
	h := sha256.New()
	n, err := io.Copy(h, f)
	return Object{Bytes: n, SHA256: hex.EncodeToString(h.Sum(nil))}, err
}

func (b *Bucket) upload(ctx context.Context, path string, m Meta) (Meta, error) {
	n := m.name()
	switch have, err := b.readMeta(ctx, n); {
	case err == nil:
		err = b.verifyParts(ctx, &have)
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotFound) {
			return have, err
		}
		// It says whole and is not: ours takes its place.
		if err := b.remove(ctx, n.meta()); err != nil {
			return Meta{}, err
		}
	case errors.Is(err, ErrDamaged):
		if err := b.remove(ctx, n.meta()); err != nil {
			return Meta{}, err
		}
	case !errors.Is(err, ErrNotFound):
		return Meta{}, err
	}
	// Even if they are there: a sweep tells by their time that they are wanted.
	if err := b.putFile(ctx, path, m.Records); err != nil {
		return Meta{}, err
	}
	if err := b.putFile(ctx, segment.IndexPath(path), m.Index); err != nil {
		return Meta{}, err
	}
	return b.publish(ctx, m)
}

// publish writes the meta. If another hub was faster, its segment counts.
func (b *Bucket) publish(ctx context.Context, m Meta) (Meta, error) {
	body, err := json.MarshalIndent(&m, "", "  ")
	if err != nil {
		return Meta{}, err
	}
	ours, err := b.create(ctx, m.name().meta(), body)
	if err != nil {
		return Meta{}, err
	}
	won := m
	if !ours {
		if won, err = b.readMeta(ctx, m.name()); err != nil {
			return Meta{}, err
		}
		if won.Records.Name != m.Records.Name {
			err = b.remove(ctx, m.Records.Name)
		}
		if won.Index.Name != m.Index.Name {
			err = errors.Join(err, b.remove(ctx, m.Index.Name))
		}
	}
	// A sweep of a hub with a wrong clock may have come between.
	return won, errors.Join(err, b.verifyParts(ctx, &won))
}

func (b *Bucket) putFile(ctx context.Context, path string, o Object) error {
	return b.put(ctx, o.Name, o.Bytes, false, func() (io.ReadCloser, error) { return os.Open(path) })
}

// verifyParts looks whether records and index are there, and as long as they
// should be. What is in them is checked when it is read.
func (b *Bucket) verifyParts(ctx context.Context, m *Meta) error {
	for _, o := range []Object{m.Records, m.Index} {
		a, err := b.stat(ctx, o.Name)
		if err != nil {
			return err
		}
		if a.Size != o.Bytes {
			return fmt.Errorf("%w: %s in %s has %d bytes, its meta says %d: upload the segment again", ErrDamaged, o.Name, b.where, a.Size, o.Bytes)
		}
	}
	return nil
}
