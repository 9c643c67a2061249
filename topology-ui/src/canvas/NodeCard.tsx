import { memo } from "react";
import type { Node, Saturation } from "../api/types_gen";
import { formatMillis, formatRate, formatShare } from "../graph/format";
import { cardHeight, cardWidth } from "../graph/geometry";
import { healthDisplay } from "../graph/health";
import { shortName } from "../graph/names";
import { HealthGlyph } from "../parts/HealthGlyph";
import { Icon } from "../parts/Icon";
import { useNode, useSelect } from "../state/context";
import type { Emphasis } from "./emphasis";

interface Props {
  readonly id: string;
  readonly x: number;
  readonly y: number;
  readonly emphasis: Emphasis;
}

export const NodeCard = memo(function NodeCard({ id, x, y, emphasis }: Props) {
  const node = useNode(id);
  const select = useSelect();
  if (!node) return null;
  const lit = emphasis.nodes === null || emphasis.nodes.has(id);
  const connected = node.instances.filter((i) => i.connected).length;
  return (
    <button
      type="button"
      className="node"
      style={{ left: x - cardWidth / 2, top: y - cardHeight / 2, width: cardWidth, height: cardHeight }}
      data-node={id}
      data-kind={node.kind}
      data-health={node.health}
      data-lit={lit}
      data-selected={emphasis.selected === id}
      aria-label={describe(node)}
      aria-pressed={emphasis.selected === id}
      onClick={() => select({ kind: "node", id })}
    >
      <span className="node-head">
        <HealthGlyph health={node.health} size={17} />
        <span className="node-name">{shortName(node)}</span>
        {node.version !== "" && <span className="chip">{node.version}</span>}
      </span>
      <span className="node-sub">
        <span className="node-namespace">{node.kind === "workload" ? node.namespace : kindText(node.kind)}</span>
        {node.instances.length > 0 && (
          <span className="node-sidecars" data-short={connected < node.instances.length}>
            <Icon name="sidecar" size={11} />
            {connected === node.instances.length ? connected : `${connected}/${node.instances.length}`}
          </span>
        )}
      </span>
      <Numbers node={node} />
      <span className="node-saturation" style={{ width: `${saturationShare(node.saturation) * 100}%` }} />
    </button>
  );
});

/** Inbound traffic; for a node that only sends, what it sends, marked with an arrow. */
function Numbers({ node }: { node: Node }) {
  const sends = sendsOnly(node);
  const s = sends ? node.outbound : node.inbound;
  return (
    <span className="node-numbers">
      <span>{sends && <span className="node-out">↗</span>}{formatRate(s.rate)}<small>/s</small></span>
      <span data-bad={s.errors > 0}>{formatShare(s.errorShare)}<small> err</small></span>
      <span>{formatMillis(s.p95, s.requests)}</span>
    </span>
  );
}

function sendsOnly(node: Node): boolean {
  return node.inbound.requests === 0 && node.outbound.requests > 0;
}

/** How full the fullest of the node's queues is, 0 to 1. */
function saturationShare(s: Saturation): number {
  const waiting = s.poolPending === 0 ? 0 : s.poolPending / (s.poolPending + s.poolActive);
  return Math.min(1, Math.max(s.reportQueue, waiting));
}

function kindText(kind: string): string {
  return kind === "external" ? "external" : "no sidecar";
}

function describe(node: Node): string {
  const s = sendsOnly(node) ? node.outbound : node.inbound;
  const verb = sendsOnly(node) ? "sends" : "receives";
  return [
    node.workload || node.id,
    `namespace ${node.namespace || "unknown"}`,
    healthDisplay(node.health).label.toLowerCase(),
    `${verb} ${formatRate(s.rate)} requests per second`,
    `${formatShare(s.errorShare)} errors`,
    `p95 ${formatMillis(s.p95, s.requests)}`,
  ].join(", ");
}
