import type { Edge } from "../api/types_gen";
import { SignalCharts } from "../charts/SignalCharts";
import { commands } from "../graph/commands";
import { formatAgo, formatBytes, formatCount } from "../graph/format";
import { nameOfID, shortHost } from "../graph/names";
import { Command } from "../parts/Command";
import { Icon } from "../parts/Icon";
import { useNow } from "../parts/useNow";
import { useEdge, useSelect } from "../state/context";
import { Gone } from "./Gone";
import { HealthLine, PanelHead } from "./PanelHead";
import { RecentRequests } from "./RecentRequests";
import { SignalGrid } from "./SignalGrid";

export function EdgePanel({ id, close }: { id: string; close: () => void }) {
  const edge = useEdge(id);
  const select = useSelect();
  if (!edge) return <Gone what="edge" id={id} close={close} />;
  const service = shortHost(edge.destinationService);
  const end = (node: string) => (
    <button type="button" className="link title-link" onClick={() => select({ kind: "node", id: node })}>{nameOfID(node)}</button>
  );
  return (
    <>
      <PanelHead
        kicker={["edge", edge.protocol, edge.destinationService].filter((t) => t !== "").join(" · ")}
        title={<span className="edge-title">{end(edge.source)}<Icon name="arrow" size={18} />{end(edge.destination)}</span>}
        close={close}
      >
        <HealthLine health={edge.health} reason={edge.healthReason} />
      </PanelHead>
      <div className="panel-body" tabIndex={0} role="group" aria-label="Details of the edge">
        <h3 className="first">Requests, as the {edge.reporter} reports</h3>
        <SignalGrid signals={edge.signals} />
        <SignalCharts kind="edge" id={id} />
        <Reporters edge={edge} />
        <RecentRequests service={service} title="Latest requests" matches={(r) => r.edge === id} />
        <Facts edge={edge} />
        <section className="section">
          <h3>From the command line</h3>
          <Command line={commands.serviceTap(service)} label="Copy as meshctl command" />
        </section>
      </div>
    </>
  );
}

/** The exact counts of both ends, side by side. */
function Reporters({ edge }: { edge: Edge }) {
  const most = Math.max(edge.sourceTotal, edge.destinationTotal, 1);
  const row = (label: string, total: number) => (
    <div className="reporter">
      <span>{label}</span>
      <span className="response-bar"><i data-class="ok" style={{ width: `${(total / most) * 100}%` }} /></span>
      <b className="number">{total.toLocaleString("en-US")}</b>
    </div>
  );
  const gap = edge.sourceTotal - edge.destinationTotal;
  return (
    <section className="section" aria-label="Both reporters">
      <h3>Requests counted by each end, since the hub's data begins</h3>
      {row(nameOfID(edge.source), edge.sourceTotal)}
      {row(nameOfID(edge.destination), edge.destinationTotal)}
      <p className="note" data-differ={edge.disagreement}>
        {edge.disagreement && <span className="mark-differ"><Icon name="differ" size={12} /></span>}
        {gapText(gap, edge)}
      </p>
    </section>
  );
}

function gapText(gap: number, edge: Edge): string {
  if (gap === 0) return "Both ends agree.";
  if (edge.sourceTotal === 0 || edge.destinationTotal === 0) {
    return `Only the ${edge.sourceTotal === 0 ? "destination" : "source"} has a sidecar that reports.`;
  }
  return gap > 0
    ? `${formatCount(gap)} requests left ${nameOfID(edge.source)} and did not arrive, or have not been reported yet.`
    : `${formatCount(-gap)} requests arrived that no sidecar of ${nameOfID(edge.source)} has reported.`;
}

function Facts({ edge }: { edge: Edge }) {
  const now = useNow(1000);
  const { bytesIn, bytesOut } = edge.signals;
  return (
    <section className="section" aria-label="Facts">
      <h3>Facts</h3>
      <dl className="facts">
        <div><dt>Connection</dt><dd>{securityText(edge.security)}</dd></div>
        <div><dt>Bytes in the window</dt><dd>{formatBytes(bytesIn)} sent, {formatBytes(bytesOut)} answered</dd></div>
        <div><dt>First request</dt><dd>{formatAgo(edge.firstSeenMillis, now)}</dd></div>
        <div><dt>Newest request</dt><dd>{formatAgo(edge.lastSeenMillis, now)}</dd></div>
      </dl>
    </section>
  );
}

function securityText(security: string): string {
  return security === "mutual_tls" ? "mutual TLS" : security === "" || security === "none" || security === "unknown" ? "plain text" : security;
}
