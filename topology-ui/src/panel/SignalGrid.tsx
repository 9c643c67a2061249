import type { Signals } from "../api/types_gen";
import { formatCount, formatMillis, formatRate, formatShare } from "../graph/format";

/** The golden signals as big numbers. In flight is known for nodes only. */
export function SignalGrid({ signals, inFlight }: { signals: Signals; inFlight?: number }) {
  const { requests } = signals;
  return (
    <dl className="grid">
      <Cell label="Rate" value={formatRate(signals.rate)} unit="/s" />
      <Cell label="Errors" value={formatShare(signals.errorShare)} bad={signals.errors > 0} />
      {inFlight === undefined ? <Cell label="Requests" value={formatCount(requests)} /> : <Cell label="In flight" value={formatCount(inFlight)} />}
      <Cell label="p50" value={formatMillis(signals.p50, requests)} />
      <Cell label="p95" value={formatMillis(signals.p95, requests)} />
      <Cell label="p99" value={formatMillis(signals.p99, requests)} />
      {signals.denied + signals.throttled > 0 && (
        <>
          <Cell label="Denied" value={formatCount(signals.denied)} />
          <Cell label="Throttled" value={formatCount(signals.throttled)} />
          <Cell label="Client errors" value={formatCount(signals.clientErrors)} />
        </>
      )}
    </dl>
  );
}

function Cell({ label, value, unit, bad = false }: { label: string; value: string; unit?: string; bad?: boolean }) {
  const [number, own] = value.split(" ");
  return (
    <div className="cell">
      <dt>{label}</dt>
      <dd data-bad={bad}>{number}<small>{unit ?? (own ? ` ${own}` : "")}</small></dd>
    </div>
  );
}
