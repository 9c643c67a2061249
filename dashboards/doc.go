// Package dashboards makes Grafana boards from the live inventory of a mesh:
// one for the mesh, one for each service and each workload, one for the hub.
// It writes them as files with Grafana's provisioning, or pushes them through
// Grafana's API.
//
// Boards are classic (v1) JSON, which Grafana up to 13 takes and migrates by
// itself. Every metric and label comes from internal/vocab, so that a renamed
// one breaks the build and never blanks a panel. The order on a board is
// always: golden signals on the first screen, then edges, then saturation in
// detail, then policy verdicts, then sizes.
//
// # Which reporter
//
// A request between two sidecars is counted twice, by its source and by its
// destination. Boards count it once, by the rule that the hub's graph uses:
// what the source reported, since only it saw the requests that never
// arrived, and for callers without a sidecar what the destination reported.
package dashboards
