import { HubError } from "../api/client";
import type { Trace } from "../api/types_gen";
import { commands } from "../graph/commands";
import { formatClock, formatMillis, nanosToMillis } from "../graph/format";
import { isVerdict, operationOf, outcomeOf, statusOf, verdictText, waterfallOf, type WaterfallRow } from "../graph/request";
import { Command } from "../parts/Command";
import { CopyText } from "../parts/CopyText";
import { Icon } from "../parts/Icon";
import { AccessLog } from "./AccessLog";
import { PanelHead } from "./PanelHead";
import { RequestDetails } from "./RequestDetails";
import { UnknownRequest } from "./UnknownRequest";
import { useTrace } from "./useTrace";
import { Waterfall } from "./Waterfall";

export function RequestPanel({ id, close }: { id: string; close: () => void }) {
  const { data, error } = useTrace(id);
  if (data) return <Found trace={data} close={close} />;
  if (error instanceof HubError && error.status !== 0) return <UnknownRequest id={id} error={error} close={close} />;
  return (
    <>
      <PanelHead kicker="request" title={<span className="mono-title">{id}</span>} close={close} />
      <div className="panel-body"><p className="note" aria-busy={error === null}>{error ? error.message : "Looking it up…"}</p></div>
    </>
  );
}

/** Characters of a status that fit beside duration and hops; RESOURCE_EXHAUSTED has a row of its own. */
const besideOthers = 9;

function Found({ trace, close }: { trace: Trace; close: () => void }) {
  const rows = waterfallOf(trace);
  const root = rows[0]?.record;
  const status = root ? statusOf(root) : "";
  return (
    <>
      <PanelHead
        kicker={`request · ${formatClock(nanosToMillis(trace.startUnixNano))}`}
        title={root ? operationOf(root) : trace.requestId}
        close={close}
      >
        <Verdicts rows={rows} />
      </PanelHead>
      <div className="panel-body" tabIndex={0} role="group" aria-label="Details of the request">
        <dl className="grid">
          <div className="cell" data-wide={status.length > besideOthers}><dt>Status</dt><dd>{root && <span className="code code-large" data-class={outcomeOf(root)}>{status}</span>}</dd></div>
          <div className="cell"><dt>Duration</dt><dd>{formatMillis(trace.durationMs)}</dd></div>
          <div className="cell"><dt>Hops</dt><dd>{rows.length}<small>{failedText(rows)}</small></dd></div>
        </dl>
        <Identity trace={trace} />
        <Waterfall trace={trace} rows={rows} />
        <Gaps trace={trace} />
        <RequestDetails rows={rows} />
        <AccessLog rows={rows} />
        <section className="section">
          <h3>From the command line</h3>
          <Command line={commands.request(trace.requestId || trace.traceId)} label="Copy as meshctl command" />
        </section>
      </div>
    </>
  );
}

/** What the waterfall's rows do not already say about themselves. */
function Gaps({ trace }: { trace: Trace }) {
  const gaps = trace.gaps.filter((gap) => !trace.hops.some((hop) => hop.gap === gap));
  if (gaps.length === 0) return null;
  return (
    <section className="section" aria-label="Gaps">
      <h3>What is missing</h3>
      <ul className="gaps">{gaps.map((gap, i) => <li key={`${i} ${gap}`}>{gap}</li>)}</ul>
    </section>
  );
}

function failedText(rows: readonly WaterfallRow[]): string {
  const failed = rows.filter((r) => r.hop.failed).length;
  return failed === 0 ? "" : `, ${failed} failed`;
}

/** Each decision of a policy on the way, once. */
function Verdicts({ rows }: { rows: readonly WaterfallRow[] }) {
  const said = new Map<string, string>();
  for (const { hop } of rows) {
    for (const record of [hop.client, hop.server]) {
      if (record && isVerdict(record.verdict)) said.set(`${record.verdict} ${record.rule}`, record.rule);
    }
  }
  if (said.size === 0) return null;
  return (
    <ul className="verdicts">
      {[...said].map(([key, rule]) => (
        <li key={key} className="mark-policy"><Icon name="shield" size={13} />{verdictText(key.split(" ")[0] ?? "")} by {rule || "policy"}</li>
      ))}
    </ul>
  );
}

function Identity({ trace }: { trace: Trace }) {
  const same = trace.requestId.replaceAll("-", "") === trace.traceId;
  return (
    <dl className="facts ids">
      <div><dt>Request ID</dt><dd><code>{trace.requestId}</code><CopyText text={trace.requestId} label="Copy request ID" /></dd></div>
      {!same && <div><dt>Trace ID</dt><dd><code>{trace.traceId}</code><CopyText text={trace.traceId} label="Copy trace ID" /></dd></div>}
    </dl>
  );
}
