package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// maxEventBytes bounds one line of a stream. A record has a few kilobytes, its
// largest part a request head of 64 KiB.
const maxEventBytes = 1 << 20

// Tap is the sink of a tap; calls come one after the other.
type Tap struct {
	// Record takes one record. An error ends the tap and is its result.
	Record func(*topologyv1.Record) error
	// Lagged is called when the hub left some out, because they were more than
	// it could hand over.
	Lagged func()
}

// Tap streams records that match the query (service, status, min_ms) to the
// sink until ctx ends, which is no error, or the sink or the stream fails.
func (c *Client) Tap(ctx context.Context, query url.Values, sink Tap) error {
	resp, err := c.send(ctx, "/api/mesh/v1/tap", query, "text/event-stream")
	if err != nil {
		return tapError(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return tapError(ctx, refusal(resp))
	}
	err = readEvents(resp.Body, func(name string, data []byte) error {
		switch name {
		case "record":
			var r topologyv1.Record
			if err := json.Unmarshal(data, &r); err != nil {
				return fmt.Errorf("decode record: %w", err)
			}
			return sink.Record(&r)
		case "lagged":
			sink.Lagged()
		}
		return nil // events of a later version
	})
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = &UnreachableError{URL: c.URL(), Err: errors.New("the hub closed the stream")}
	}
	return tapError(ctx, err)
}

func tapError(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("tap: %w", err)
}

// readEvents parses a stream of server-sent events (WHATWG HTML, section
// 9.2.6) and calls take for each. A stream never ends by itself: its end is
// io.ErrUnexpectedEOF.
func readEvents(r io.Reader, take func(name string, data []byte) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxEventBytes)
	name, data, filled := "", []byte(nil), false
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			if filled {
				if err := take(name, data); err != nil {
					return err
				}
			}
			name, data, filled = "", nil, false
			continue
		}
		field, value, _ := strings.Cut(line, ":") // a comment has an empty field
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			name = value
		case "data":
			if filled {
				data = append(data, '\n')
			}
			data, filled = append(data, value...), true
			if len(data) > maxEventBytes {
				return bufio.ErrTooLong
			}
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read the stream: %w", err)
	}
	return io.ErrUnexpectedEOF
}

// Records reads what `tap -o json` wrote, one object a line, and calls take
// for each. Empty lines are passed over.
func Records(r io.Reader, take func(*topologyv1.Record) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxEventBytes)
	for number := 1; lines.Scan(); number++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var record topologyv1.Record
		if err := json.Unmarshal(line, &record); err != nil {
			return fmt.Errorf("line %d is not a record: %w", number, err)
		}
		if err := take(&record); err != nil {
			return err
		}
	}
	return lines.Err()
}
