import type { Edge } from "../api/types_gen";
import { formatMillis, formatRate, formatShare } from "../graph/format";
import { nameOfID } from "../graph/names";
import type { Direction } from "../graph/navigate";
import { HealthGlyph } from "../parts/HealthGlyph";
import { useAllEdges, useSelect, useServices } from "../state/context";

/** Who calls this node, or whom it calls, busiest first; names lead there. */
export function Neighbours({ id, direction }: { id: string; direction: Direction }) {
  const edges = useAllEdges()
    .filter((e) => (direction === "caller" ? e.destination : e.source) === id)
    .sort((a, b) => b.signals.rate - a.signals.rate || a.id.localeCompare(b.id));
  const title = direction === "caller" ? "Callers" : "Calls";
  if (edges.length === 0) return null;
  return (
    <section className="section" aria-label={title}>
      <h3>{title}</h3>
      <table className="mini">
        <thead>
          <tr><th scope="col">Workload</th><th scope="col">Rate</th><th scope="col">Errors</th><th scope="col">p95</th><th scope="col"><span className="hidden">Edge</span></th></tr>
        </thead>
        <tbody>
          {edges.map((e) => <Row key={e.id} edge={e} other={direction === "caller" ? e.source : e.destination} />)}
        </tbody>
      </table>
    </section>
  );
}

function Row({ edge, other }: { edge: Edge; other: string }) {
  const select = useSelect();
  const { hover } = useServices();
  const { signals } = edge;
  return (
    <tr onPointerEnter={() => hover.set(edge.id)} onPointerLeave={() => hover.set("")}>
      <td>
        <button type="button" className="link" onClick={() => select({ kind: "node", id: other })}>
          <HealthGlyph health={edge.health} size={13} titled />
          {nameOfID(other)}
        </button>
      </td>
      <td>{formatRate(signals.rate)}/s</td>
      <td data-bad={signals.errors > 0}>{formatShare(signals.errorShare)}</td>
      <td>{formatMillis(signals.p95, signals.requests)}</td>
      <td><button type="button" className="link" aria-label={`Edge to ${nameOfID(other)}`} onClick={() => select({ kind: "edge", id: edge.id })}>edge</button></td>
    </tr>
  );
}
