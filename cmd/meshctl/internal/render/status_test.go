package render

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

func TestNamesAreGRPCs(t *testing.T) {
	for n, name := range grpcNames {
		var c codes.Code
		if err := c.UnmarshalJSON([]byte(strconv.Quote(name))); err != nil || int(c) != n {
			t.Errorf("%s is code %d, %v; want %d", name, c, err, n)
		}
	}
	var beyond codes.Code
	if err := beyond.UnmarshalJSON([]byte(strconv.Itoa(len(grpcNames)))); err == nil {
		t.Errorf("gRPC has a code %d: name it", len(grpcNames))
	}
}

func TestStatusIsInTheProtocolsWords(t *testing.T) {
	for _, tc := range []struct {
		record topologyv1.Record
		want   string
		paint  Paint
	}{
		{topologyv1.Record{Code: 200}, "200", Green},
		{topologyv1.Record{Code: 404}, "404", Yellow},
		{topologyv1.Record{Code: 503}, "503", Red},
		{topologyv1.Record{}, "none", Red},
		{topologyv1.Record{Code: 200, GRPCStatus: "0"}, "OK", Green},
		{topologyv1.Record{Code: 200, GRPCStatus: "14"}, "UNAVAILABLE", Red},
		{topologyv1.Record{Code: 200, GRPCStatus: "17"}, "17", Red},
		{topologyv1.Record{Code: 200, GRPCStatus: "a\x1b"}, "a\ufffd", Red},
	} {
		if got, paint := Status(&tc.record), StatusPaint(&tc.record); got != tc.want || paint != tc.paint {
			t.Errorf("status of code %d, gRPC %q: %q in %q, want %q in %q", tc.record.Code, tc.record.GRPCStatus, got, paint, tc.want, tc.paint)
		}
	}
}

func TestWaterfallHasRoomForTheNameOfAStatus(t *testing.T) {
	trace := sideways("/")
	trace.Hops[0].Client.GRPCStatus, trace.Hops[1].Client.GRPCStatus = "8", "0"
	var b strings.Builder
	if err := Waterfall(&b, trace, Style{Width: 100}); err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(b.String(), "HOP")
	lines := strings.Split("HOP"+table, "\n")
	// column is that of the rune behind text.
	column := func(line, text string) int {
		before, _, found := strings.Cut(line, text)
		if !found {
			t.Errorf("%q is missing in\n%s", text, &b)
		}
		return utf8.RuneCountInString(before + text)
	}
	if column(lines[0], "STATUS")-len("STATUS") != column(lines[1], "RESOURCE_EXHAUSTED")-len("RESOURCE_EXHAUSTED") ||
		column(lines[0], "DURATION") != column(lines[1], "10.0ms") || column(lines[0], "DURATION") != column(lines[3], "1.00ms") {
		t.Errorf("the columns do not stand below each other:\n%s", &b)
	}
}
