import type { Edge } from "../api/types_gen";

export type Direction = "caller" | "callee";

/** The busiest neighbour on one side; the reader walks the graph along its traffic. */
export function busiestNeighbour(edges: readonly Edge[], id: string, direction: Direction): string | null {
  const [near, far] = direction === "callee" ? (["source", "destination"] as const) : (["destination", "source"] as const);
  const candidates = edges
    .filter((e) => e[near] === id && e[far] !== id)
    .sort((a, b) => b.signals.rate - a.signals.rate || a.id.localeCompare(b.id));
  return candidates[0]?.[far] ?? null;
}

/** The next node above or below in the same layer, else null. */
export function layerNeighbour(
  centres: ReadonlyMap<string, { x: number; y: number }>,
  id: string,
  step: -1 | 1,
): string | null {
  const from = centres.get(id);
  if (!from) return null;
  let best: { id: string; distance: number } | null = null;
  for (const [other, at] of centres) {
    const distance = (at.y - from.y) * step;
    if (other !== id && Math.abs(at.x - from.x) < 40 && distance > 0 && (best === null || distance < best.distance)) {
      best = { id: other, distance };
    }
  }
  return best?.id ?? null;
}
