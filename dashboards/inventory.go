package dashboards

import (
	"cmp"
	"slices"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/vocab"
)

// kindWorkload is topologyv1.Node.Kind of what has a sidecar.
const kindWorkload = "workload"

// Inventory is what boards are made for. The order of its lists is of no
// consequence.
type Inventory struct {
	Services  []Service
	Workloads []Workload
}

// Service is a name that requests are sent to.
type Service struct{ Namespace, Name string }

// Workload is what runs with sidecars.
type Workload struct {
	Namespace, Name string
	// Service that it is part of, empty if none.
	Service string
	// Serves and Calls say whether requests towards it and by it were seen.
	// They decide which queries have to answer (Query.MayBeEmpty), and change
	// no board.
	Serves, Calls bool
}

// FromGraph reads the inventory off the hub's graph. Nodes without a sidecar
// have no saturation and no verdicts, hence no boards; a service that nobody
// ever called, such as a load generator, has no signals.
func FromGraph(g *topologyv1.Graph) Inventory {
	serves, calls := map[string]bool{}, map[string]bool{}
	for _, e := range g.Edges {
		serves[e.Destination], calls[e.Source] = true, true
	}
	var inv Inventory
	for _, n := range g.Nodes {
		if n.Kind != kindWorkload || !known(n.Workload) {
			continue
		}
		w := Workload{Namespace: n.Namespace, Name: n.Workload, Serves: serves[n.ID], Calls: calls[n.ID]}
		if known(n.Service) {
			w.Service = n.Service
			if w.Serves {
				inv.Services = append(inv.Services, Service{Namespace: n.Namespace, Name: n.Service})
			}
		}
		inv.Workloads = append(inv.Workloads, w)
	}
	return inv.sorted()
}

func known(name string) bool { return name != "" && name != vocab.Unknown }

// sorted is a copy in order and without repetitions. Of a workload given
// twice, what was seen of either counts.
func (inv Inventory) sorted() Inventory {
	services := slices.Clone(inv.Services)
	slices.SortFunc(services, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	given := slices.Clone(inv.Workloads)
	// One with a service stands before the same one without.
	slices.SortFunc(given, func(a, b Workload) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), -cmp.Compare(a.Service, b.Service))
	})
	var workloads []Workload
	for _, w := range given {
		if n := len(workloads); n > 0 && workloads[n-1].Namespace == w.Namespace && workloads[n-1].Name == w.Name {
			workloads[n-1].Serves = workloads[n-1].Serves || w.Serves
			workloads[n-1].Calls = workloads[n-1].Calls || w.Calls
			continue
		}
		workloads = append(workloads, w)
	}
	return Inventory{Services: slices.Compact(services), Workloads: workloads}
}

// of lists the workloads of a service, of an Inventory that is sorted.
func (inv Inventory) of(s Service) []Workload {
	var list []Workload
	for _, w := range inv.Workloads {
		if w.Namespace == s.Namespace && w.Service == s.Name {
			list = append(list, w)
		}
	}
	return list
}
