package main

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/telemesh/telemesh/proxy/capture"
)

// initFlags is what an operator writes to capture a pod's or host's connections.
type initFlags struct {
	inbound, outbound           uint16
	uids                        []uint
	inboundPorts, outboundPorts []uint
	excludeCIDRs, includeCIDRs  []string
	ipv6                        bool
	backend                     string
	remove, print               bool
}

func initCommand() *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write the kernel's rules that bring a pod's or host's connections to the sidecar",
		Long: `Writes the redirect of this network namespace's TCP connections to the sidecar, with
nftables or iptables, and exits. It needs CAP_NET_ADMIN; the sidecar does not. Run
again, it replaces what it wrote; --remove takes it out.

The sidecar must run as one of the users of --exclude-uid, and no workload may.
Connections within the host or pod are never captured. The inbound listener must be
bound to every address (--inbound-address :15006).`,
		Example: `  mesh-proxy init
  mesh-proxy init --exclude-outbound-ports 25,53 --exclude-cidrs 169.254.169.254/32
  mesh-proxy init --print --backend iptables
  mesh-proxy init --remove`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runInit(cmd, &f) },
	}
	flags := cmd.Flags()
	flags.Uint16Var(&f.inbound, "inbound-port", 15006, "the sidecar's inbound listener; 0 captures nothing that comes in")
	flags.Uint16Var(&f.outbound, "outbound-port", 15001, "the sidecar's outbound listener; 0 captures nothing that goes out")
	flags.UintSliceVar(&f.uids, "exclude-uid", []uint{capture.DefaultUID}, "user that the sidecar runs as, whose connections are left alone")
	flags.UintSliceVar(&f.inboundPorts, "exclude-inbound-ports", nil, "ports that are not captured on their way in, beside the sidecar's own")
	flags.UintSliceVar(&f.outboundPorts, "exclude-outbound-ports", nil, "destination ports that are not captured on their way out")
	flags.StringSliceVar(&f.excludeCIDRs, "exclude-cidrs", nil, "destinations that are not captured")
	flags.StringSliceVar(&f.includeCIDRs, "include-cidrs", nil, "the only destinations captured (default all)")
	flags.BoolVar(&f.ipv6, "ipv6", true, "capture IPv6 too")
	flags.StringVar(&f.backend, "backend", string(capture.Auto), "auto, nft or iptables")
	flags.BoolVar(&f.remove, "remove", false, "take the rules out")
	flags.BoolVar(&f.print, "print", false, "print the rules and change nothing")
	cmd.MarkFlagsMutuallyExclusive("remove", "print")
	return cmd
}

func runInit(cmd *cobra.Command, f *initFlags) error {
	rules, err := f.rules()
	if err != nil {
		return err
	}
	backend := capture.Backend(f.backend)
	if f.print && backend == capture.Auto {
		backend = capture.NFTables // what is installed here says nothing of where they go
	}
	w, err := capture.NewWriter(backend)
	if err != nil {
		return fmt.Errorf("--backend: %w", err)
	}
	switch {
	case f.remove:
		return w.Remove(cmd.Context())
	case f.print:
		if err := rules.Validate(); err != nil {
			return err
		}
		_, err := fmt.Fprint(cmd.OutOrStdout(), w.Script(&rules))
		return err
	}
	return w.Apply(cmd.Context(), &rules)
}

// rules turns the flags into rules and names the flag that is wrong.
func (f *initFlags) rules() (capture.Rules, error) {
	r := capture.Rules{InboundPort: f.inbound, OutboundPort: f.outbound, IPv6: f.ipv6}
	if len(f.uids) == 0 && f.outbound != 0 {
		return r, errors.New("--exclude-uid: no user is excluded, so the sidecar's own connections would come back to it")
	}
	for _, uid := range f.uids {
		if uint64(uid) > 1<<32-2 { // the last is chown's "no change"
			return r, fmt.Errorf("--exclude-uid %d: want a user ID", uid)
		}
		r.ExcludeUIDs = append(r.ExcludeUIDs, uint32(uid))
	}
	var err error
	if r.ExcludeInboundPorts, err = ports("--exclude-inbound-ports", f.inboundPorts); err != nil {
		return r, err
	}
	if r.ExcludeOutboundPorts, err = ports("--exclude-outbound-ports", f.outboundPorts); err != nil {
		return r, err
	}
	if r.ExcludeCIDRs, err = cidrs("--exclude-cidrs", f.excludeCIDRs); err != nil {
		return r, err
	}
	r.IncludeCIDRs, err = cidrs("--include-cidrs", f.includeCIDRs)
	return r, err
}

func ports(flag string, in []uint) (out []uint16, err error) {
	for _, p := range in {
		if p < 1 || p > 65535 {
			return nil, fmt.Errorf("%s %d: want 1 to 65535", flag, p)
		}
		out = append(out, uint16(p))
	}
	return out, nil
}

// cidrs reads networks; an address alone is a network of one.
func cidrs(flag string, in []string) (out []netip.Prefix, err error) {
	for _, s := range in {
		p, err := netip.ParsePrefix(s)
		if a, alone := netip.ParseAddr(s); err != nil && alone == nil {
			p, err = a.WithZone("").Prefix(a.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("%s %q: want an address or a network such as 10.0.0.0/8", flag, s)
		}
		out = append(out, p)
	}
	return out, nil
}
