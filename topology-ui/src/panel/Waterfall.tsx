import { useState } from "react";
import type { RequestRecord, Trace } from "../api/types_gen";
import { formatBytes, formatMillis } from "../graph/format";
import { nameOfID } from "../graph/names";
import { extentOf, isVerdict, operationOf, outcomeOf, statusOf, ticksOf, verdictText, type Bar, type WaterfallRow } from "../graph/request";
import { Icon } from "../parts/Icon";
import { useEdgeHovered, useServices } from "../state/context";

/** The hops in call order on one time axis: outside the caller's wait, inside the callee's work. */
export function Waterfall({ trace, rows }: { trace: Trace; rows: readonly WaterfallRow[] }) {
  const extent = extentOf(trace, rows);
  const [open, setOpen] = useState<number | null>(null);
  return (
    <section className="section waterfall" aria-label="Waterfall">
      <div className="section-head">
        <h3>Waterfall</h3>
        <span className="waterfall-key"><i data-side="client" />caller <i data-side="server" />callee</span>
      </div>
      <div className="ticks" aria-hidden="true">
        {ticksOf(extent).map((t) => <span key={t} data-end={t > extent * 0.93} style={{ left: `${(t / extent) * 100}%` }}>{t === 0 ? "0" : formatMillis(t)}</span>)}
      </div>
      <ol className="hop-list">
        {rows.map((row) => (
          <HopRow key={row.number} row={row} extent={extent} open={open === row.number} toggle={() => setOpen(open === row.number ? null : row.number)} />
        ))}
      </ol>
    </section>
  );
}

function HopRow({ row, extent, open, toggle }: { row: WaterfallRow; extent: number; open: boolean; toggle: () => void }) {
  const { hover } = useServices();
  const hovered = useEdgeHovered(row.hop.edge) && row.hop.edge !== "";
  const { record, hop } = row;
  return (
    <li className="hop" data-hovered={hovered} data-failed={hop.failed} onPointerEnter={() => hover.set(hop.edge)} onPointerLeave={() => hover.set("")}>
      <button type="button" className="hop-row" aria-expanded={open} onClick={toggle} onFocus={() => hover.set(hop.edge)} onBlur={() => hover.set("")}>
        <span className="hop-head">
          <span className="hop-indent" style={{ width: row.depth * 12 }} />
          <span className="hop-number" data-failed={hop.failed}>{row.number}</span>
          <span className="hop-name">{nameOfID(hop.source)} <span className="muted">→</span> <b>{nameOfID(hop.destination)}</b></span>
          {record && isVerdict(record.verdict) && <span className="mark-policy"><Icon name="shield" size={11} />{verdictText(record.verdict)}</span>}
          {record && <span className="code" data-class={outcomeOf(record)}>{statusOf(record)}</span>}
          <span className="number hop-duration">{formatMillis(hop.durationMs)}</span>
        </span>
        <span className="hop-track">
          <BarOf bar={row.client} extent={extent} side="client" failed={hop.failed} />
          <BarOf bar={row.server} extent={extent} side="server" failed={hop.failed} />
        </span>
        {hop.gap && <span className="hop-gap">{hop.gap}</span>}
      </button>
      {open && record && <HopFacts record={record} />}
    </li>
  );
}

function BarOf({ bar, extent, side, failed }: { bar: Bar | null; extent: number; side: "client" | "server"; failed: boolean }) {
  if (!bar) return null;
  const left = Math.max(0, Math.min(100, (bar.start / extent) * 100));
  const width = Math.max(0.4, Math.min(100 - left, (bar.length / extent) * 100));
  return <span className="bar" data-side={side} data-failed={failed} style={{ left: `${left}%`, width: `${width}%` }} />;
}

function HopFacts({ record }: { record: RequestRecord }) {
  const facts: readonly (readonly [string, string])[] = [
    ["Operation", operationOf(record)],
    ["Host", record.host],
    ["Route", record.route],
    ["Upstream", record.upstream],
    ["First byte after", record.firstByteMs > 0 ? formatMillis(record.firstByteMs) : ""],
    ["Attempts", record.attempts > 1 ? String(record.attempts) : ""],
    ["Flags", [record.flags, record.detail].filter((t) => t !== "" && t !== "-").join(" · ")],
    ["Policy", isVerdict(record.verdict) ? `${verdictText(record.verdict)} by ${record.rule || "policy"}` : ""],
    ["Bytes", `${formatBytes(record.bytesIn)} in, ${formatBytes(record.bytesOut)} out`],
    ["Span", record.spanId],
  ];
  return (
    <dl className="facts hop-facts">
      {facts.filter(([, value]) => value !== "").map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}
    </dl>
  );
}
