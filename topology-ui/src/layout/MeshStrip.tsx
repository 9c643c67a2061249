import type { Health } from "../api/types_gen";
import { formatCount, formatMillis, formatRate, formatShare, formatWindow } from "../graph/format";
import { healthDisplay, healthOrder } from "../graph/health";
import { HealthGlyph } from "../parts/HealthGlyph";
import { useAllNodes, useMesh, useView } from "../state/context";
import { LiveClock } from "./LiveClock";

/** The whole mesh in one line, and how fresh it is. */
export function MeshStrip() {
  const mesh = useMesh();
  const { windowSeconds } = useView();
  if (mesh === null) {
    return <div className="strip"><LiveClock lagMillis={-1} /></div>;
  }
  const { signals } = mesh;
  const refused = signals.denied + signals.throttled;
  const missing = mesh.sidecars - mesh.sidecarsConnected;
  return (
    <div className="strip" role="group" aria-label="Mesh summary">
      <Figure label="Requests" value={formatRate(signals.rate)} unit="/s" />
      <Figure label="Errors" value={formatShare(signals.errorShare)} bad={signals.errors > 0} />
      <Figure label="p95" value={formatMillis(signals.p95, signals.requests)} />
      <Figure label="Refused" value={formatCount(refused)} unit={` in ${formatWindow(windowSeconds)}`} />
      <Figure label="Sidecars" value={`${mesh.sidecarsConnected}/${mesh.sidecars}`} bad={missing > 0} />
      {mesh.recordsLost > 0 && <Figure label="Records lost" value={formatCount(mesh.recordsLost)} bad />}
      <HealthCounts />
      <LiveClock lagMillis={mesh.lagMillis} />
    </div>
  );
}

function Figure({ label, value, unit, bad = false }: { label: string; value: string; unit?: string; bad?: boolean }) {
  return (
    <div className="figure">
      <span className="figure-label">{label}</span>
      <span className="figure-value" data-bad={bad}>{value}{unit && <small>{unit}</small>}</span>
    </div>
  );
}

function HealthCounts() {
  const nodes = useAllNodes();
  const count = (health: Health) => nodes.filter((n) => n.health === health).length;
  return (
    <ul className="health-counts" aria-label="Workloads by health">
      {healthOrder.map((health) => {
        const n = count(health);
        return n === 0 ? null : (
          <li key={health}><HealthGlyph health={health} size={14} /><b>{n}</b><span>{healthDisplay(health).label.toLowerCase()}</span></li>
        );
      })}
    </ul>
  );
}
