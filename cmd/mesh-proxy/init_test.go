package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestInitPrintsWhatItWouldWrite(t *testing.T) {
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		cmd := initCommand()
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(args)
		cmd.SilenceUsage = true
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	for backend, want := range map[string]string{"auto": "ip daddr { 10.0.0.1/32 } return", "iptables": "-d 10.0.0.1/32 -j RETURN"} {
		got, err := run("--print", "--backend", backend, "--exclude-cidrs", "10.0.0.1")
		if err != nil || !strings.Contains(got, want) || !strings.Contains(got, "1337") {
			t.Errorf("%s: %v\n%s", backend, err, got)
		}
	}
	for want, args := range map[string][]string{
		"--exclude-outbound-ports 0": {"--print", "--exclude-outbound-ports", "0"},
		"--include-cidrs \"x\"":      {"--print", "--include-cidrs", "x"},
		"want auto, nft":             {"--print", "--backend", "pf"},
		"nothing to capture":         {"--print", "--inbound-port", "0", "--outbound-port", "0"},
		"[print remove]":             {"--print", "--remove"},
	} {
		if _, err := run(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}
