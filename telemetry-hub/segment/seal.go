package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

const newSuffix = ".new"

// IndexPath is where the index of the segment at path stands.
func IndexPath(path string) string { return path + ".index" }

// Summary of a sealed segment.
type Summary struct {
	Rows                  int
	DataBytes, IndexBytes int64
	// MinStart and MaxStart in Unix nanoseconds; 0 if there are no rows.
	MinStart, MaxStart int64
	// SkippedGroups of a merge were damaged, so that their SkippedRows are not in
	// the segment; 0 of others.
	SkippedGroups, SkippedRows int
}

// Seal ends the segment: the footer is written, the file synced, read back and
// compared, the index written, and both take their names. Once it returns
// without an error the records are durable, and their log may be dropped. The
// index takes its name first, so who sees the segment sees its index. After an
// error Abort removes what is left, unless only the sync of the folder failed:
// the segment is then sound, but may not be there after a crash.
func (b *Builder) Seal() (Summary, error) {
	if b.err != nil {
		return Summary{}, b.err
	}
	b.flush()
	tail, err := b.footer.encode()
	if err = errors.Join(b.err, err); err != nil {
		return Summary{}, err
	}
	b.group.pages.out = append(b.group.pages.out, tail...)
	if b.write(); b.err != nil {
		return Summary{}, b.err
	}
	size := b.group.pages.base
	if err := b.f.Sync(); err != nil {
		return Summary{}, fmt.Errorf("sync segment: %w", err)
	}
	if err := b.readBack(size, tail); err != nil {
		return Summary{}, fmt.Errorf("read segment back: %w", err)
	}
	index := b.index.encode(size, tail)
	if err := b.publish(index); err != nil {
		return Summary{}, err
	}
	s := Summary{Rows: int(b.index.rows), DataBytes: size, IndexBytes: int64(len(index))}
	for i, g := range b.index.groups {
		if i == 0 || g.stats.minStart < s.MinStart {
			s.MinStart = g.stats.minStart
		}
		if i == 0 || g.stats.maxStart > s.MaxStart {
			s.MaxStart = g.stats.maxStart
		}
	}
	return s, nil
}

// readBack compares the file with what was meant to be in it: the checksum of
// every column, the footer, and the rows that it counts.
func (b *Builder) readBack(size int64, tail []byte) error {
	var buf []byte
	for i := range b.index.groups {
		g := &b.index.groups[i]
		n := int(g.size())
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		if _, err := b.f.ReadAt(buf[:n], g.offset); err != nil {
			return err
		}
		rest := buf[:n]
		for c, k := range g.chunks {
			length := k.dictLen + k.dataLen
			if crc32.Checksum(rest[:length], castagnoli) != k.sum {
				return fmt.Errorf("%w: row group %d, column %s: checksum", ErrCorrupt, i, Column(c))
			}
			rest = rest[length:]
		}
	}
	read := make([]byte, len(tail)+1) // one more, to see the end
	n, err := b.f.ReadAt(read, size-int64(len(tail)))
	if n != len(tail) || !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: its length", ErrCorrupt)
	}
	meta, err := readFooter(read[:n])
	if err != nil {
		return err
	}
	if crc32.Checksum(read[:n], castagnoli) != crc32.Checksum(tail, castagnoli) || meta.NumRows != int64(b.index.rows) {
		return fmt.Errorf("%w: footer", ErrCorrupt)
	}
	return nil
}

// readFooter reads the metadata from the end of a Parquet file.
func readFooter(tail []byte) (*format.FileMetaData, error) {
	n := len(tail)
	if n < 8 || string(tail[n-4:]) != parquetMagic || binary.LittleEndian.Uint32(tail[n-8:]) != uint32(n-8) {
		return nil, fmt.Errorf("%w: no Parquet footer", ErrCorrupt)
	}
	meta := &format.FileMetaData{}
	if err := thrift.Unmarshal(new(thrift.CompactProtocol), tail[:n-8], meta); err != nil {
		return nil, fmt.Errorf("%w: footer: %w", ErrCorrupt, err)
	}
	return meta, nil
}

// publish writes the index and gives both files their names.
func (b *Builder) publish(index []byte) error {
	indexPath := IndexPath(b.path)
	if err := writeSynced(indexPath+newSuffix, index); err != nil {
		return fmt.Errorf("write index: %w", errors.Join(err, os.Remove(indexPath+newSuffix)))
	}
	if err := os.Rename(indexPath+newSuffix, indexPath); err != nil {
		return fmt.Errorf("publish index: %w", err)
	}
	if err := os.Rename(b.f.Name(), b.path); err != nil {
		return fmt.Errorf("publish segment: %w", errors.Join(err, os.Remove(indexPath)))
	}
	if err := b.f.Close(); err != nil { // synced and read back already, so nothing can be lost
		return fmt.Errorf("close segment: %w", err)
	}
	b.f, b.err = nil, errors.New("segment is sealed")
	dir, err := os.Open(filepath.Dir(b.path))
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

func writeSynced(path string, b []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
