package capture

import (
	"fmt"
	"strings"
)

// table is the one nftables table that is ours.
const table = "inet telemesh"

// nftRemoval deletes the table, whether or not it is there: creating it first
// does nothing if it exists.
const nftRemoval = "add table " + table + "\ndelete table " + table + "\n"

// NFT renders the rules for nft -f: one transaction that replaces what was there.
func (r *Rules) NFT() string {
	var b strings.Builder
	b.WriteString(nftRemoval)
	fmt.Fprintf(&b, "table %s {\n", table)
	if r.OutboundPort != 0 {
		r.nftChain(&b, "output", r.nftOutbound())
	}
	if r.InboundPort != 0 {
		r.nftChain(&b, "prerouting", r.nftInbound())
	}
	b.WriteString("}\n")
	return b.String()
}

func (r *Rules) nftChain(b *strings.Builder, hook string, rules []string) {
	fmt.Fprintf(b, "\tchain %s {\n\t\ttype nat hook %s priority -100; policy accept;\n\t\tmeta l4proto != tcp return\n", hook, hook)
	if !r.IPv6 {
		b.WriteString("\t\tmeta nfproto ipv6 return\n")
	}
	for _, rule := range rules {
		fmt.Fprintf(b, "\t\t%s\n", rule)
	}
	b.WriteString("\t}\n")
}

func (r *Rules) nftOutbound() []string {
	rules := []string{"fib daddr type local return"}
	if len(r.ExcludeUIDs) > 0 {
		rules = append(rules, "meta skuid "+nftSet(ordered(r.ExcludeUIDs))+" return")
	}
	if len(r.ExcludeOutboundPorts) > 0 {
		rules = append(rules, "tcp dport "+nftSet(ordered(r.ExcludeOutboundPorts))+" return")
	}
	for _, f := range []struct {
		name, proto string
		v6          bool
	}{{"ip", "ipv4", false}, {"ip6", "ipv6", true}} {
		if f.v6 && !r.IPv6 {
			continue
		}
		if out := family(r.ExcludeCIDRs, f.v6); len(out) > 0 {
			rules = append(rules, f.name+" daddr "+nftSet(out)+" return")
		}
		if in := family(r.IncludeCIDRs, f.v6); len(in) > 0 {
			rules = append(rules, f.name+" daddr != "+nftSet(in)+" return")
		} else if len(r.IncludeCIDRs) > 0 {
			rules = append(rules, "meta nfproto "+f.proto+" return")
		}
	}
	return append(rules, fmt.Sprintf("meta l4proto tcp redirect to :%d", r.OutboundPort))
}

func (r *Rules) nftInbound() []string {
	return []string{
		`iifname "lo" return`,
		"tcp dport " + nftSet(r.inboundLeftAlone()) + " return",
		fmt.Sprintf("meta l4proto tcp redirect to :%d", r.InboundPort),
	}
}

func nftSet[T any](items []T) string {
	texts := make([]string, len(items))
	for i, v := range items {
		texts[i] = fmt.Sprint(v)
	}
	return "{ " + strings.Join(texts, ", ") + " }"
}
