import type { RequestRecord } from "../api/types_gen";
import type { WaterfallRow } from "../graph/request";
import { CopyText } from "../parts/CopyText";

/** Every sidecar's own line about this request, in the order of the hops. */
export function AccessLog({ rows }: { rows: readonly WaterfallRow[] }) {
  const lines = rows.flatMap(({ number, hop }) =>
    [hop.client, hop.server].filter((r): r is RequestRecord => r !== undefined && r.accessLog !== "").map((record) => ({ number, record })),
  );
  if (lines.length === 0) return null;
  return (
    <section className="section" aria-label="Access log">
      <div className="section-head">
        <h3>Access log</h3>
        <CopyText text={lines.map((l) => l.record.accessLog).join("\n")} label="Copy all lines" />
      </div>
      <ul className="log" tabIndex={0} aria-label="Access-log lines">
        {lines.map(({ number, record }) => (
          <li key={`${number} ${record.reporter}`}>
            <span className="log-from"><span className="hop-number">{number}</span>{reporterName(record)}</span>
            <code>{record.accessLog}</code>
          </li>
        ))}
      </ul>
    </section>
  );
}

function reporterName(r: RequestRecord): string {
  const party = r.reporter === "source" ? r.source : r.destination;
  return `${party.instance || party.workload} · ${r.reporter}`;
}
