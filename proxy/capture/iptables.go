package capture

import (
	"fmt"
	"strings"
)

// hook is one of our chains and the built-in chain that jumps to it.
type hook struct{ builtin, chain string }

var (
	outputHook  = hook{"OUTPUT", "TELEMESH_OUTPUT"}
	inboundHook = hook{"PREROUTING", "TELEMESH_INBOUND"}
	hooks       = []hook{outputHook, inboundHook}
)

// jump is the rule in the built-in chain, without the verb before it.
func (h hook) jump() string { return h.builtin + " -p tcp -j " + h.chain }

// IPTables renders the rules for iptables-restore --noflush, or ip6tables-restore
// if v6 is set: one transaction that replaces what was there. jumps are the
// hooks whose jump exists already, which must not be there twice.
func (r *Rules) IPTables(v6 bool, jumps map[string]bool) string {
	var b strings.Builder
	b.WriteString("*nat\n")
	for _, h := range hooks {
		fmt.Fprintf(&b, ":%s - [0:0]\n", h.chain) // made, or emptied
	}
	for _, h := range hooks {
		switch rules := r.chain(h, v6); {
		case rules == nil && jumps[h.chain]:
			fmt.Fprintf(&b, "-D %s\n", h.jump())
		case rules != nil && !jumps[h.chain]:
			fmt.Fprintf(&b, "-A %s\n", h.jump())
		}
		for _, rule := range r.chain(h, v6) {
			fmt.Fprintf(&b, "-A %s %s\n", h.chain, rule)
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// iptablesRemoval takes the chains out, whether or not they are there.
func iptablesRemoval(jumps map[string]bool) string {
	var b strings.Builder
	b.WriteString("*nat\n")
	for _, h := range hooks {
		fmt.Fprintf(&b, ":%s - [0:0]\n", h.chain)
	}
	for _, h := range hooks {
		if jumps[h.chain] {
			fmt.Fprintf(&b, "-D %s\n", h.jump())
		}
		fmt.Fprintf(&b, "-X %s\n", h.chain)
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// chain is the rules of one of our chains; nil if that direction is not
// captured.
func (r *Rules) chain(h hook, v6 bool) []string {
	switch {
	case v6 && !r.IPv6:
		return nil
	case h == outputHook && r.OutboundPort != 0:
		return r.outputChain(v6)
	case h == inboundHook && r.InboundPort != 0:
		return r.inboundChain()
	}
	return nil
}

func (r *Rules) outputChain(v6 bool) []string {
	rules := []string{"-m addrtype --dst-type LOCAL -j RETURN"}
	for _, uid := range ordered(r.ExcludeUIDs) {
		rules = append(rules, fmt.Sprintf("-m owner --uid-owner %d -j RETURN", uid))
	}
	for _, port := range ordered(r.ExcludeOutboundPorts) {
		rules = append(rules, fmt.Sprintf("-p tcp --dport %d -j RETURN", port))
	}
	for _, p := range family(r.ExcludeCIDRs, v6) {
		rules = append(rules, fmt.Sprintf("-d %s -j RETURN", p))
	}
	redirect := fmt.Sprintf("-p tcp -j REDIRECT --to-ports %d", r.OutboundPort)
	if len(r.IncludeCIDRs) == 0 {
		return append(rules, redirect)
	}
	for _, p := range family(r.IncludeCIDRs, v6) {
		rules = append(rules, fmt.Sprintf("-d %s %s", p, redirect))
	}
	return rules
}

func (r *Rules) inboundChain() []string {
	rules := []string{"-i lo -j RETURN"}
	for _, port := range r.inboundLeftAlone() {
		rules = append(rules, fmt.Sprintf("-p tcp --dport %d -j RETURN", port))
	}
	return append(rules, fmt.Sprintf("-p tcp -j REDIRECT --to-ports %d", r.InboundPort))
}
