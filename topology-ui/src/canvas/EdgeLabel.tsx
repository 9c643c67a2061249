import { memo } from "react";
import type { Edge } from "../api/types_gen";
import { formatCount, formatMillis, formatRate, formatShare } from "../graph/format";
import { healthDisplay } from "../graph/health";
import { nameOfID } from "../graph/names";
import type { PathHop } from "../graph/request";
import { HealthGlyph } from "../parts/HealthGlyph";
import { Icon } from "../parts/Icon";
import { useEdge, useEdgeHovered, useSelect, useServices } from "../state/context";
import type { Emphasis } from "./emphasis";

interface Props {
  readonly id: string;
  readonly x: number;
  readonly y: number;
  readonly emphasis: Emphasis;
}

/** Rate, error share and p95 on the curve; on a lit path that request's own hops instead. */
export const EdgeLabel = memo(function EdgeLabel({ id, x, y, emphasis }: Props) {
  const edge = useEdge(id);
  const hovered = useEdgeHovered(id);
  const { hover } = useServices();
  const select = useSelect();
  if (!edge) return null;
  const hops = emphasis.path?.hopsByEdge.get(id);
  const lit = emphasis.edges === null || emphasis.edges.has(id);
  return (
    <button
      type="button"
      className="edge-label"
      style={{ left: x, top: y }}
      data-lit={lit}
      data-health={edge.health}
      data-selected={emphasis.selected === id}
      data-hovered={hovered}
      data-failed={hops?.some((h) => h.failed) ?? false}
      data-on-path={hops !== undefined}
      aria-label={describe(edge, hops)}
      onClick={() => select({ kind: "edge", id })}
      onPointerEnter={() => hover.set(id)}
      onPointerLeave={() => hover.set("")}
    >
      {hops ? <Hops hops={hops} /> : <Numbers edge={edge} />}
    </button>
  );
});

function Numbers({ edge }: { edge: Edge }) {
  const { signals } = edge;
  return (
    <>
      {edge.health !== "healthy" && <HealthGlyph health={edge.health} size={12} />}
      <span className="edge-rate">{formatRate(signals.rate)}<small>/s</small></span>
      <span className="edge-errors" data-any={signals.errors > 0}>{formatShare(signals.errorShare)}</span>
      <span className="edge-p95">{formatMillis(signals.p95, signals.requests)}</span>
      <Marks edge={edge} />
    </>
  );
}

// More numbers than this would hide the curve they stand on.
const shownHops = 3;

function Hops({ hops }: { hops: readonly PathHop[] }) {
  const total = hops.reduce((sum, h) => sum + h.durationMs, 0);
  return (
    <>
      <span className="hops">
        {hops.slice(0, shownHops).map((h) => <span key={h.number} className="hop-number" data-failed={h.failed}>{h.number}</span>)}
        {hops.length > shownHops && <span className="hop-number">+{hops.length - shownHops}</span>}
      </span>
      <span className="edge-rate">{formatMillis(total)}</span>
      {hops.some((h) => h.failed) && <span className="edge-errors" data-any="true">failed</span>}
    </>
  );
}

/** What policy refused, and whether the two reporters disagree. */
function Marks({ edge }: { edge: Edge }) {
  const refused = edge.signals.denied + edge.signals.throttled;
  if (refused === 0 && !edge.disagreement) return null;
  return (
    <span className="edge-marks">
      {refused > 0 && <span className="mark-policy"><Icon name="shield" size={11} />{formatCount(refused)}</span>}
      {edge.disagreement && <span className="mark-differ"><Icon name="differ" size={11} /></span>}
    </span>
  );
}

function describe(edge: Edge, hops: readonly PathHop[] | undefined): string {
  const { signals } = edge;
  const parts = [
    `${nameOfID(edge.source)} to ${nameOfID(edge.destination)}`,
    healthDisplay(edge.health).label.toLowerCase(),
    `${formatRate(signals.rate)} requests per second`,
    `${formatShare(signals.errorShare)} errors`,
    `p95 ${formatMillis(signals.p95, signals.requests)}`,
  ];
  if (signals.denied > 0) parts.push(`${signals.denied} denied`);
  if (signals.throttled > 0) parts.push(`${signals.throttled} throttled`);
  if (edge.disagreement) parts.push("reporters disagree");
  if (hops) parts.unshift(`hop ${hops.map((h) => h.number).join(", ")}`);
  return parts.join(", ");
}
