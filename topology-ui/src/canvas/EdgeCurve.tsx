import { memo } from "react";
import type { Edge } from "../api/types_gen";
import { pathData, type Curve } from "../graph/geometry";
import { failedParticles, particleCount, particleSpeed, strokeWidth } from "../graph/traffic";
import { useEdge, useEdgeHovered, useSelect, useServices } from "../state/context";
import type { Emphasis } from "./emphasis";

export const EdgeCurve = memo(function EdgeCurve({ curve, emphasis, still }: { curve: Curve; emphasis: Emphasis; still: boolean }) {
  const edge = useEdge(curve.id);
  const hovered = useEdgeHovered(curve.id);
  const { hover } = useServices();
  const select = useSelect();
  if (!edge) return null;
  const lit = emphasis.edges === null || emphasis.edges.has(curve.id);
  const path = pathData(curve);
  const width = strokeWidth(edge.signals.rate);
  return (
    <g
      className="edge"
      data-edge={curve.id}
      data-health={edge.health}
      data-lit={lit}
      data-on-path={emphasis.path?.hopsByEdge.has(curve.id) ?? false}
      data-failed={emphasis.path?.hopsByEdge.get(curve.id)?.some((h) => h.failed) ?? false}
      data-selected={emphasis.selected === curve.id}
      data-hovered={hovered}
      onPointerEnter={() => hover.set(curve.id)}
      onPointerLeave={() => hover.set("")}
      onClick={() => select({ kind: "edge", id: curve.id })}
    >
      <path className="edge-hit" d={path} />
      <path className="edge-halo" d={path} strokeWidth={width + 7} />
      <path className="edge-line" d={path} strokeWidth={width} />
      <Arrow curve={curve} width={width} />
      {lit && !still && <Particles edge={edge} curve={curve} path={path} width={width} />}
    </g>
  );
});

function Arrow({ curve, width }: { curve: Curve; width: number }) {
  const half = 4 + width * 0.55;
  const { to, c2 } = curve;
  const degrees = (Math.atan2(to.y - c2.y, to.x - c2.x) * 180) / Math.PI;
  return <path className="edge-arrow" d={`M9 0L-2 ${-half}L-2 ${half}Z`} transform={`translate(${to.x} ${to.y}) rotate(${degrees.toFixed(1)})`} />;
}

/**
 * Dots that move at one speed, more of them for more traffic, some of them
 * marked for failures. Their number changes in steps; the keys keep running
 * dots running.
 */
function Particles({ edge, curve, path, width }: { edge: Edge; curve: Curve; path: string; width: number }) {
  const count = particleCount(edge.signals.rate, curve.length);
  const failed = failedParticles(count, edge.signals.errorShare);
  const seconds = curve.length / particleSpeed;
  return Array.from({ length: count }, (_, i) => (
    <circle key={`${i}/${count}`} className="particle" data-failed={i < failed} r={Math.max(2.8, width * 0.72)}>
      <animateMotion dur={`${seconds.toFixed(2)}s`} begin={`${((-seconds * i) / count).toFixed(2)}s`} repeatCount="indefinite" path={path} />
    </circle>
  ));
}
