import type { Instance, Node, Saturation } from "../api/types_gen";
import { SignalCharts } from "../charts/SignalCharts";
import { commands } from "../graph/commands";
import { formatAgo, formatShare } from "../graph/format";
import { shortName } from "../graph/names";
import { Command } from "../parts/Command";
import { useNow } from "../parts/useNow";
import { useNode } from "../state/context";
import { Gone } from "./Gone";
import { Neighbours } from "./Neighbours";
import { HealthLine, PanelHead } from "./PanelHead";
import { RecentRequests } from "./RecentRequests";
import { SignalGrid } from "./SignalGrid";

export function NodePanel({ id, close }: { id: string; close: () => void }) {
  const node = useNode(id);
  if (!node) return <Gone what="workload" id={id} close={close} />;
  const sends = node.inbound.requests === 0 && node.outbound.requests > 0;
  const service = node.service || node.workload;
  return (
    <>
      <PanelHead
        kicker={[node.namespace, node.kind === "workload" ? "workload" : node.kind, node.cluster].filter((t) => t !== "").join(" · ")}
        title={<>{shortName(node)}{node.version !== "" && <span className="chip">{node.version}</span>}</>}
        close={close}
      >
        <HealthLine health={node.health} reason={node.healthReason} />
      </PanelHead>
      <div className="panel-body" tabIndex={0} role="group" aria-label={`Details of ${node.workload || id}`}>
        <h3 className="first">{sends ? "Requests sent" : "Requests received"}</h3>
        <SignalGrid signals={sends ? node.outbound : node.inbound} inFlight={node.saturation.inFlight} />
        <SignalCharts kind="node" id={id} />
        <Queues saturation={node.saturation} />
        <Neighbours id={id} direction="caller" />
        <Neighbours id={id} direction="callee" />
        <RecentRequests service={service} title="Latest requests" matches={(r) => r.destination.node === id || r.source.node === id} />
        <Instances node={node} />
        <section className="section">
          <h3>From the command line</h3>
          <Command line={commands.serviceTap(service)} label="Copy as meshctl command" />
        </section>
      </div>
    </>
  );
}

/** What stands behind the bar at the foot of the node's card. */
function Queues({ saturation: s }: { saturation: Saturation }) {
  return (
    <dl className="facts section" aria-label="Queues">
      <div><dt>Connections</dt><dd>{s.poolActive} active, {s.poolIdle} idle, {s.poolPending} requests waiting</dd></div>
      <div><dt>Report queue</dt><dd>{formatShare(s.reportQueue)} full</dd></div>
    </dl>
  );
}

function Instances({ node }: { node: Node }) {
  const now = useNow(1000);
  if (node.instances.length === 0) return null;
  return (
    <section className="section" aria-label="Sidecars">
      <h3>Sidecars</h3>
      <ul className="instances">
        {node.instances.map((instance) => (
          <li key={instance.name}>
            <span className="dot" data-state={stateOf(instance)} aria-hidden="true" />
            <span className="instance-name">{instance.name}</span>
            <span className="muted">{stateText(instance)}, reported {formatAgo(instance.lastReportMillis, now)}</span>
            {instance.detail && <span className="instance-detail">{instance.detail}</span>}
          </li>
        ))}
      </ul>
    </section>
  );
}

function stateOf(i: Instance): "up" | "app-down" | "gone" {
  return !i.connected ? "gone" : i.appReachable ? "up" : "app-down";
}

function stateText(i: Instance): string {
  return { up: "connected", "app-down": "connected, application does not answer", gone: "disconnected" }[stateOf(i)];
}
