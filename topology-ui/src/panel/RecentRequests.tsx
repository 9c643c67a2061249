import { Switch } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { getRequests } from "../api/client";
import type { RequestRecord } from "../api/types_gen";
import { formatClock, formatMillis, nanosToMillis } from "../graph/format";
import { operationOf, outcomeOf, statusOf } from "../graph/request";
import { useSelect } from "../state/context";

const asked = 200;
const shown = 12;

interface Props {
  readonly service: string;
  readonly title: string;
  /** The hub searches by service; what belongs to one node or edge is picked here. */
  readonly matches: (record: RequestRecord) => boolean;
}

export function RecentRequests({ service, title, matches }: Props) {
  const [onlyErrors, setOnlyErrors] = useState(false);
  const status = onlyErrors ? "5xx" : "";
  const { data, error } = useQuery({
    queryKey: ["requests", service, status],
    queryFn: ({ signal }) => getRequests({ service, status, limit: asked }, signal),
    refetchInterval: 3_000,
  });
  const records = distinct((data?.requests ?? []).filter(matches)).slice(0, shown);
  return (
    <section className="section" aria-label={title}>
      <div className="section-head">
        <h3>{title}</h3>
        <Switch size="xs" label="Only errors" checked={onlyErrors} onChange={(e) => setOnlyErrors(e.currentTarget.checked)} />
      </div>
      {records.length > 0 && <ul className="requests">{records.map((r) => <Item key={r.spanId + r.startUnixNano} record={r} />)}</ul>}
      {data && records.length === 0 && <p className="note">{onlyErrors ? "No failed request" : "No request"} among the newest {data.requests.length} of {service}.</p>}
      {error && <p className="note">{error.message}</p>}
    </section>
  );
}

function Item({ record }: { record: RequestRecord }) {
  const select = useSelect();
  const id = record.requestId || record.traceId;
  return (
    <li>
      <button type="button" className="request-item" onClick={() => select({ kind: "request", id })} title={id}>
        <span className="code" data-class={outcomeOf(record)}>{statusOf(record)}</span>
        <span className="request-operation">{operationOf(record)}</span>
        <span className="number">{formatMillis(record.durationMs)}</span>
        <span className="request-time">{formatClock(nanosToMillis(record.startUnixNano)).slice(0, 8)}</span>
      </button>
    </li>
  );
}

/** Both ends report a request; one line is enough, the first that came. */
function distinct(records: readonly RequestRecord[]): RequestRecord[] {
  const seen = new Set<string>();
  return records.filter((r) => {
    const key = `${r.traceId} ${r.edge} ${r.reporter === "source" ? r.spanId : r.parentSpanId}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}
