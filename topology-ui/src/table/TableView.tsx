import { useMemo, useState } from "react";
import type { Edge } from "../api/types_gen";
import { formatCount, formatMillis, formatRate, formatShare } from "../graph/format";
import { healthDisplay } from "../graph/health";
import { nameOfID } from "../graph/names";
import type { PathHop } from "../graph/request";
import { sortEdges, type EdgeColumn, type Order } from "../graph/sort";
import { HealthGlyph } from "../parts/HealthGlyph";
import { useEmphasis } from "../canvas/emphasis";
import { useAllEdges, useSelect } from "../state/context";

const columns: readonly { key: EdgeColumn; title: string; numeric: boolean }[] = [
  { key: "health", title: "Health", numeric: false },
  { key: "source", title: "Source", numeric: false },
  { key: "destination", title: "Destination", numeric: false },
  { key: "protocol", title: "Protocol", numeric: false },
  { key: "rate", title: "Rate /s", numeric: true },
  { key: "errorShare", title: "Errors", numeric: true },
  { key: "p50", title: "p50", numeric: true },
  { key: "p95", title: "p95", numeric: true },
  { key: "p99", title: "p99", numeric: true },
  { key: "denied", title: "Denied", numeric: true },
  { key: "throttled", title: "Throttled", numeric: true },
];

/** The graph as a table: the same edges, sortable, for keyboard and screen reader. */
export function TableView() {
  const edges = useAllEdges();
  const emphasis = useEmphasis();
  const [order, setOrder] = useState<Order>({ column: "rate", descending: true });
  const sorted = useMemo(() => sortEdges(edges, order), [edges, order]);
  const sortBy = (column: EdgeColumn, numeric: boolean) =>
    setOrder({ column, descending: order.column === column ? !order.descending : numeric });
  return (
    <div className="table-view" tabIndex={0} role="region" aria-label="Edges">
      <table>
        <caption>{edges.length} edges. Choose a column&rsquo;s title to sort by it.</caption>
        <thead>
          <tr>
            {columns.map(({ key, title, numeric }) => (
              <th key={key} scope="col" data-numeric={numeric} aria-sort={order.column !== key ? "none" : order.descending ? "descending" : "ascending"}>
                <button type="button" onClick={() => sortBy(key, numeric)}>
                  {title}<span className="sort-mark" aria-hidden="true">{order.column === key ? (order.descending ? "▾" : "▴") : ""}</span>
                </button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {sorted.map((edge) => <Row key={edge.id} edge={edge} selected={emphasis.selected === edge.id} onPath={emphasis.path?.hopsByEdge.get(edge.id)} />)}
        </tbody>
      </table>
    </div>
  );
}

function Row({ edge, selected, onPath }: { edge: Edge; selected: boolean; onPath: readonly PathHop[] | undefined }) {
  const select = useSelect();
  const s = edge.signals;
  const node = (id: string) => <button type="button" className="link" onClick={() => select({ kind: "node", id })}>{nameOfID(id)}</button>;
  return (
    <tr data-selected={selected} data-on-path={onPath !== undefined}>
      <td>
        <button type="button" className="link" onClick={() => select({ kind: "edge", id: edge.id })} aria-label={`${healthDisplay(edge.health).label}, edge ${nameOfID(edge.source)} to ${nameOfID(edge.destination)}`}>
          <HealthGlyph health={edge.health} size={14} />{healthDisplay(edge.health).label}
        </button>
      </td>
      <td>{node(edge.source)}</td>
      <td>{node(edge.destination)}{onPath?.map((h) => <span key={h.number} className="hop-number" data-failed={h.failed}>{h.number}</span>)}</td>
      <td className="muted">{edge.protocol}</td>
      <td data-numeric="true">{formatRate(s.rate)}</td>
      <td data-numeric="true" data-bad={s.errors > 0}>{formatShare(s.errorShare)}</td>
      <td data-numeric="true">{formatMillis(s.p50, s.requests)}</td>
      <td data-numeric="true">{formatMillis(s.p95, s.requests)}</td>
      <td data-numeric="true">{formatMillis(s.p99, s.requests)}</td>
      <td data-numeric="true">{formatCount(s.denied)}</td>
      <td data-numeric="true">{formatCount(s.throttled)}</td>
    </tr>
  );
}
