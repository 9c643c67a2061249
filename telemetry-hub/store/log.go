package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
)

// A log file is a sequence of frames:
//
//	magic(4) length(4) crc32c(4) payload(length)
//
// all little-endian. The magic lets a reader find the next frame behind a
// damaged one.
const (
	frameMagic  = 0x6d6c6574 // "telm"
	frameHeader = 12
	// MaxFrame bounds a payload: a batch is far below, so a larger length is
	// damage and not data.
	MaxFrame = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendFrame(dst, payload []byte) []byte {
	at := len(dst)
	dst = append(append(dst, make([]byte, frameHeader)...), payload...)
	putFrameHeader(dst[at:])
	return dst
}

// putFrameHeader fills the header of a frame whose payload stands behind it.
func putFrameHeader(frame []byte) {
	payload := frame[frameHeader:]
	binary.LittleEndian.PutUint32(frame, frameMagic)
	binary.LittleEndian.PutUint32(frame[4:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(frame[8:], crc32.Checksum(payload, castagnoli))
}

// errDamaged marks bytes that are not a whole, sound frame.
var errDamaged = errors.New("damaged frame")

// errTorn marks a damaged frame that the file ends within.
var errTorn = errors.New("ends before its length")

// readFrame reads the frame at offset; limit bounds its payload, so that a
// damaged length claims no memory. The payload is fresh memory.
func readFrame(f io.ReaderAt, offset, limit int64) ([]byte, error) {
	return appendPayload(nil, f, offset, limit)
}

// appendPayload is readFrame into memory that dst may have. dst comes back if
// there is an error.
func appendPayload(dst []byte, f io.ReaderAt, offset, limit int64) ([]byte, error) {
	var header [frameHeader]byte
	if n, err := f.ReadAt(header[:], offset); err != nil {
		if errors.Is(err, io.EOF) && isPrefix(header[:n]) {
			err = errTorn
		}
		return dst, fmt.Errorf("%w at %d: %w", errDamaged, offset, err)
	}
	length := int64(binary.LittleEndian.Uint32(header[4:]))
	if binary.LittleEndian.Uint32(header[:]) != frameMagic || length > MaxFrame {
		return dst, fmt.Errorf("%w at %d: no frame header", errDamaged, offset)
	}
	sum := binary.LittleEndian.Uint32(header[8:])
	if length > limit {
		return dst, fmt.Errorf("%w at %d: %w", errDamaged, offset, shortReason(f, offset, limit, sum))
	}
	whole := slices.Grow(dst, int(length))[:len(dst)+int(length)]
	payload := whole[len(dst):]
	if _, err := f.ReadAt(payload, offset+frameHeader); err != nil && length > 0 { // a reader may say EOF for nothing at the end
		return dst, fmt.Errorf("%w at %d: %w", errDamaged, offset, err)
	}
	if crc32.Checksum(payload, castagnoli) != sum {
		return dst, fmt.Errorf("%w at %d: checksum", errDamaged, offset)
	}
	return whole, nil
}

// isPrefix reports whether b can be the beginning of a frame that was being
// written.
func isPrefix(b []byte) bool {
	magic := binary.LittleEndian.AppendUint32(nil, frameMagic)
	n := min(len(b), len(magic))
	return bytes.Equal(b[:n], magic[:n])
}

// shortReason tells a frame whose end was never written from one whose length
// was damaged: what is there of the latter is its whole payload.
func shortReason(f io.ReaderAt, offset, limit int64, sum uint32) error {
	rest := make([]byte, min(limit, MaxFrame))
	if _, err := f.ReadAt(rest, offset+frameHeader); err != nil {
		return err
	}
	if crc32.Checksum(rest, castagnoli) == sum {
		return errors.New("wrong length")
	}
	return errTorn
}

// damage is a stretch of a log file that holds no sound frame.
type damage struct {
	from, to int64
	reason   error
	// torn: the file ends within a frame, as after a crash in mid-write.
	torn bool
}

// logReader is what scan needs of a file.
type logReader interface {
	io.ReaderAt
	Stat() (os.FileInfo, error)
}

// scan calls each for every sound frame of f and damaged for every stretch in
// between. It returns the offset at which the last sound frame ends.
func scan(f logReader, each func(offset int64, payload []byte) error, damaged func(damage)) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size, offset, sound := info.Size(), int64(0), int64(0)
	for offset < size {
		payload, err := readFrame(f, offset, size-offset-frameHeader)
		if err != nil {
			next := nextMagic(f, offset+1, size)
			damaged(damage{from: offset, to: next, reason: err, torn: next == size && errors.Is(err, errTorn)})
			offset = next
			continue
		}
		if err := each(offset, payload); err != nil {
			return sound, err
		}
		offset += frameHeader + int64(len(payload))
		sound = offset
	}
	return sound, nil
}

// nextMagic finds the next place from which a sound frame can be read, or size.
func nextMagic(f io.ReaderAt, from, size int64) int64 {
	buf := make([]byte, 64<<10)
	for from < size {
		n, _ := f.ReadAt(buf, from) // what cannot be read ends the search
		if n < 4 {
			return size
		}
		for i := 0; i+4 <= n; i++ {
			if binary.LittleEndian.Uint32(buf[i:]) != frameMagic {
				continue
			}
			// A length beyond the end is seen before anything is read: there may be as
			// many of them as fit into the file.
			if i+8 <= n && int64(binary.LittleEndian.Uint32(buf[i+4:])) > size-from-int64(i)-frameHeader {
				continue
			}
			if _, err := readFrame(f, from+int64(i), size-from-int64(i)-frameHeader); err == nil {
				return from + int64(i)
			}
		}
		from += int64(n - 3)
	}
	return size
}
