package accesslog

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The default formats. IstioText and IstioJSON are what Istio sets where
// accessLogFile is on, EnvoyText is what Envoy has by itself.
const (
	IstioText = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ` +
		`%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% ` +
		`%DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" ` +
		`"%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% ` +
		`%DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%` + "\n"
	EnvoyText = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ` +
		`%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ` +
		`"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"` + "\n"
)

// IstioJSON is Istio's JSON format, by key.
func IstioJSON() map[string]string {
	return map[string]string{
		"start_time": "%START_TIME%", "route_name": "%ROUTE_NAME%", "method": "%REQ(:METHOD)%",
		"path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "protocol": "%PROTOCOL%", "response_code": "%RESPONSE_CODE%",
		"response_flags": "%RESPONSE_FLAGS%", "response_code_details": "%RESPONSE_CODE_DETAILS%",
		"connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%", "bytes_received": "%BYTES_RECEIVED%",
		"bytes_sent": "%BYTES_SENT%", "duration": "%DURATION%", "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
		"x_forwarded_for": "%REQ(X-FORWARDED-FOR)%", "user_agent": "%REQ(USER-AGENT)%", "request_id": "%REQ(X-REQUEST-ID)%",
		"authority": "%REQ(:AUTHORITY)%", "upstream_host": "%UPSTREAM_HOST%", "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
		"upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%", "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
		"downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%", "requested_server_name": "%REQUESTED_SERVER_NAME%",
		"upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
	}
}

// FormatError is a format that was refused. Position counts bytes from 1.
type FormatError struct {
	Key      string // of a JSON format
	Position int
	Reason   string
}

func (e *FormatError) Error() string {
	if e.Key != "" {
		return fmt.Sprintf("access log format, key %q, position %d: %s", e.Key, e.Position, e.Reason)
	}
	return fmt.Sprintf("access log format, position %d: %s", e.Position, e.Reason)
}

// piece is literal text or an operator.
type piece struct {
	literal  string
	value    operator
	truncate int // bytes of the value; 0 means all
}

// compile reads a text format.
func compile(format string) ([]piece, error) {
	var pieces []piece
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			pieces = append(pieces, piece{literal: literal.String()})
			literal.Reset()
		}
	}
	for at := 0; at < len(format); {
		if format[at] != '%' {
			literal.WriteByte(format[at])
			at++
			continue
		}
		if strings.HasPrefix(format[at:], "%%") {
			literal.WriteByte('%')
			at += 2
			continue
		}
		p, length, err := command(format[at:])
		if err != nil {
			err.Position += at + 1
			return nil, err
		}
		flush()
		pieces = append(pieces, p)
		at += length
	}
	flush()
	return pieces, nil
}

// command reads %NAME%, %NAME(ARGUMENT)% or %NAME(ARGUMENT):LENGTH% at the
// beginning of s. A position in the error is an offset from there.
func command(s string) (piece, int, *FormatError) {
	end := 1
	for end < len(s) && (s[end] == '_' || s[end] >= 'A' && s[end] <= 'Z' || s[end] >= '0' && s[end] <= '9') {
		end++
	}
	name, argument := s[1:end], ""
	hasArgument := end < len(s) && s[end] == '('
	if hasArgument {
		// The argument may hold anything, even %, as a time format does.
		closing := strings.IndexByte(s[end:], ')')
		if closing < 0 {
			return piece{}, 0, &FormatError{Position: end, Reason: "( without )"}
		}
		argument = s[end+1 : end+closing]
		end += closing + 1
	}
	var p piece
	if end < len(s) && s[end] == ':' {
		digits := end + 1
		for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
			digits++
		}
		n, err := strconv.Atoi(s[end+1 : digits])
		if err != nil || n == 0 {
			return piece{}, 0, &FormatError{Position: end, Reason: "want a length after the colon"}
		}
		p.truncate, end = n, digits
	}
	if end >= len(s) || s[end] != '%' {
		return piece{}, 0, &FormatError{Reason: "% begins an operator that does not end; a percent sign is written %%"}
	}
	var reason string
	if p.value, reason = lookup(name, argument, hasArgument); reason != "" {
		return piece{}, 0, &FormatError{Reason: reason}
	}
	return p, end + 1, nil
}

// member is one key of a JSON format.
type member struct {
	prefix string // comma, quoted key and colon
	pieces []piece
}

// compileJSON orders by key, as Envoy does.
func compileJSON(format map[string]string) ([]member, error) {
	var members []member
	for i, key := range slices.Sorted(maps.Keys(format)) {
		pieces, err := compile(format[key])
		if err != nil {
			err.(*FormatError).Key = key
			return nil, err
		}
		prefix := appendQuoted(nil, key)
		if i > 0 {
			prefix = append([]byte{','}, prefix...)
		}
		members = append(members, member{prefix: string(append(prefix, ':')), pieces: pieces})
	}
	return members, nil
}
