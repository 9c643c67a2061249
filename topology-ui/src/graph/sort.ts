import type { Edge } from "../api/types_gen";
import { severity } from "./health";

export type EdgeColumn =
  | "health" | "source" | "destination" | "protocol"
  | "rate" | "errorShare" | "p50" | "p95" | "p99" | "denied" | "throttled";

export interface Order {
  readonly column: EdgeColumn;
  readonly descending: boolean;
}

/** A sorted copy; equal rows stand in the order of their IDs, so that they do not jump. */
export function sortEdges(edges: readonly Edge[], { column, descending }: Order): Edge[] {
  const sign = descending ? -1 : 1;
  return [...edges].sort((a, b) => {
    const x = keyOf(a, column);
    const y = keyOf(b, column);
    const order = typeof x === "string" || typeof y === "string" ? String(x).localeCompare(String(y)) : x - y;
    return order * sign || a.id.localeCompare(b.id);
  });
}

function keyOf(edge: Edge, column: EdgeColumn): string | number {
  switch (column) {
    case "health":
      return severity(edge.health);
    case "source":
    case "destination":
    case "protocol":
      return edge[column];
    default:
      return edge.signals[column];
  }
}
