package store

import "io"

// The log's frames are also what other logs of the hub are made of.

// AppendFrame appends a frame with the payload, which must be no longer than
// MaxFrame.
func AppendFrame(dst, payload []byte) []byte { return appendFrame(dst, payload) }

// FrameBytes is what a frame takes on disk.
func FrameBytes(payload int) int64 { return int64(frameHeader + payload) }

// ReadFrame reads the frame at offset, whose payload has no more than limit bytes.
// The payload is fresh memory.
func ReadFrame(f io.ReaderAt, offset, limit int64) ([]byte, error) {
	return readFrame(f, offset, limit)
}

// ScanFrames calls each for every sound frame of f, and damaged for every stretch
// in between; torn says that the file ends within a frame, as after a crash. It
// returns where the last sound frame ends.
func ScanFrames(f logReader, each func(offset int64, payload []byte) error, damaged func(from, to int64, torn bool, reason error)) (end int64, err error) {
	return scan(f, each, func(d damage) { damaged(d.from, d.to, d.torn, d.reason) })
}
