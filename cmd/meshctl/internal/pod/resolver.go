package pod

import (
	"os"
	"path/filepath"
	"strings"
)

// resolverOptions make the usual libraries ask over TCP, which is captured,
// where UDP goes nowhere, and give up early (resolv.conf(5)).
const resolverOptions = "options use-vc timeout:2 attempts:1\n"

// writeResolver gives the pod this machine's resolvers, to be asked over TCP.
func (p *Pod) writeResolver() error {
	own, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.WriteFile(filepath.Join(p.etc(), "resolv.conf"), []byte(resolver(string(own))), 0o644)
}

func resolver(own string) string {
	var b strings.Builder
	for line := range strings.Lines(own) {
		words := strings.Fields(line)
		// Of the options only ndots changes an answer, and names of the mesh do not
		// come from here.
		if len(words) > 1 && (words[0] == "nameserver" || words[0] == "search" || words[0] == "domain") {
			b.WriteString(strings.Join(words, " ") + "\n")
		}
	}
	return b.String() + resolverOptions
}
