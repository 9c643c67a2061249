package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Backend is the program that writes rules.
type Backend string

// The backends. Auto takes nftables, or iptables where nft is not installed.
const (
	Auto     Backend = "auto"
	NFTables Backend = "nft"
	IPTables Backend = "iptables"
)

// Writer puts rules into a kernel's network namespace. Writing needs
// CAP_NET_ADMIN there.
type Writer struct {
	Backend Backend
	// Prefix comes before every command, as in "ip netns exec NAME".
	Prefix []string
}

// NewWriter returns a writer for a backend by its name.
func NewWriter(b Backend, prefix ...string) (*Writer, error) {
	switch b {
	case NFTables, IPTables:
	case Auto, "":
		if b = NFTables; !installed("nft") {
			if b = IPTables; !installed("iptables-restore") {
				return nil, errors.New("neither nft nor iptables-restore is installed: install nftables or iptables")
			}
		}
	default:
		return nil, fmt.Errorf("backend %q: want auto, nft or iptables", b)
	}
	return &Writer{Backend: b, Prefix: prefix}, nil
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// Apply puts the rules in force instead of any that were, and changes nothing on
// an error of nft. With iptables IPv4 and IPv6 are two steps.
func (w *Writer) Apply(ctx context.Context, r *Rules) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if w.Backend == NFTables {
		return w.run(ctx, r.NFT(), "nft", "-f", "-")
	}
	return w.eachFamily(ctx, func(v6 bool, jumps map[string]bool) string { return r.IPTables(v6, jumps) }, r.IPv6)
}

// Remove takes the rules out; it is no error if there are none. Connections that
// were redirected before live on.
func (w *Writer) Remove(ctx context.Context) error {
	if w.Backend == NFTables {
		return w.run(ctx, nftRemoval, "nft", "-f", "-")
	}
	return w.eachFamily(ctx, func(_ bool, jumps map[string]bool) string { return iptablesRemoval(jumps) }, false)
}

// Script is what Apply would write where no rules of ours are yet.
func (w *Writer) Script(r *Rules) string {
	if w.Backend == NFTables {
		return r.NFT()
	}
	out := "# iptables-restore --noflush\n" + r.IPTables(false, nil)
	if r.IPv6 {
		out += "# ip6tables-restore --noflush\n" + r.IPTables(true, nil)
	}
	return out
}

// eachFamily restores a script with iptables and ip6tables. A machine without
// ip6tables is left at that unless need6 says that IPv6 is to be captured.
func (w *Writer) eachFamily(ctx context.Context, script func(v6 bool, jumps map[string]bool) string, need6 bool) error {
	for _, f := range []struct {
		program string
		v6      bool
	}{{"iptables", false}, {"ip6tables", true}} {
		if f.v6 && !need6 && !installed(f.program+"-restore") {
			return nil
		}
		jumps := make(map[string]bool)
		for _, h := range hooks {
			// The check fails if there is no such rule, and that is its answer.
			check := append([]string{f.program, "-w", "-t", "nat", "-C"}, strings.Fields(h.jump())...)
			jumps[h.chain] = w.run(ctx, "", check...) == nil
		}
		err := w.run(ctx, script(f.v6, jumps), f.program+"-restore", "-w", "--noflush")
		if err != nil && (!f.v6 || need6) {
			return err
		}
	}
	return nil
}

func (w *Writer) run(ctx context.Context, stdin string, command ...string) error {
	words := append(append([]string{}, w.Prefix...), command...)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}
