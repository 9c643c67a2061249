import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { getStatus } from "../api/client";
import { commands } from "../graph/commands";
import { formatAgo, formatWindow } from "../graph/format";
import { Command } from "../parts/Command";
import { Icon } from "../parts/Icon";
import { useNow } from "../parts/useNow";
import { useServices } from "../state/context";
import type { Situation } from "./useSituation";

/** Why there is nothing to see: the count that proves it, and what to do next. */
export function EmptyState({ situation }: { situation: Situation }) {
  switch (situation.kind) {
    case "connecting":
      return <section className="empty" aria-busy="true"><Skeleton /><p className="empty-wait">Connecting to the hub…</p></section>;
    case "unreachable":
      return <Unreachable attempt={situation.attempt} error={situation.error} />;
    case "no-sidecars":
      return <NoSidecars />;
    case "no-traffic":
      return <NoTraffic {...situation} />;
    default:
      return null;
  }
}

function NoSidecars() {
  const { data } = useQuery({ queryKey: ["status"], queryFn: ({ signal }) => getStatus(signal), refetchInterval: 5000 });
  const now = useNow(1000);
  return (
    <Diagnosis count="0" unit="sidecars connected" title="No sidecar has connected yet">
      <p>
        The hub is up{data && <>, started {formatAgo(data.startMillis, now)}, and listens for sidecars on <code>{data.grpcAddress}</code></>}.
        The graph draws itself within two seconds of the first request.
      </p>
      <Step text="See a whole mesh now: Bookinfo with live traffic"><Command line={commands.demo()} label="Copy command" /></Step>
      <Step text="Or put a sidecar beside your own service"><Command line={commands.join()} label="Copy command" /></Step>
    </Diagnosis>
  );
}

function NoTraffic({ connected, known, windowSeconds }: Extract<Situation, { kind: "no-traffic" }>) {
  const { history } = useServices();
  return (
    <Diagnosis count="0" unit={`requests in the last ${formatWindow(windowSeconds)}`} title="Sidecars are connected, but nothing flows">
      <p>{connected} of {known} sidecars are connected and reported no request. Traffic that bypasses a sidecar is not seen here.</p>
      <Step text="See which address each sidecar listens on, and send a request there"><Command line={commands.status()} label="Copy command" /></Step>
      {windowSeconds < 900 && (
        <Step text="Or look further back">
          <button type="button" className="text-button" onClick={() => history.change({ windowSeconds: 900 })}>Show the last 15 min</button>
        </Step>
      )}
    </Diagnosis>
  );
}

function Unreachable({ attempt, error }: { attempt: number; error: string }) {
  const { connection } = useServices();
  return (
    <Diagnosis count={String(attempt)} unit={attempt === 1 ? "attempt failed" : "attempts failed"} title="The hub does not answer">
      <p>This page came from <code>{window.location.host}</code>, which is now silent ({error || "no answer"}). Sidecars keep carrying requests and report what they counted when the hub is back.</p>
      <Step text="Start the hub"><Command line={commands.hub()} label="Copy command" /></Step>
      <Step text="Or ask what is wrong"><Command line={commands.status()} label="Copy command" /></Step>
      <button type="button" className="text-button" onClick={() => connection.retryNow()}><Icon name="retry" size={13} />Try now</button>
    </Diagnosis>
  );
}

function Diagnosis({ count, unit, title, children }: { count: string; unit: string; title: string; children: ReactNode }) {
  return (
    <section className="empty" aria-labelledby="empty-title">
      <Skeleton />
      <div className="empty-card">
        <p className="empty-count"><b>{count}</b> {unit}</p>
        <h1 id="empty-title">{title}</h1>
        {children}
      </div>
    </section>
  );
}

function Step({ text, children }: { text: string; children: ReactNode }) {
  return <div className="empty-step"><span>{text}</span>{children}</div>;
}

/** The outline of a graph, as a hint of what will stand here. */
function Skeleton() {
  const cards = [[90, 210], [330, 210], [570, 90], [570, 210], [570, 330], [810, 150], [810, 270]];
  return (
    <svg className="empty-graph" viewBox="-180 -90 1360 640" aria-hidden="true" preserveAspectRatio="xMidYMid slice">
      <path d="M180 238H330M500 238C540 238 530 118 570 118M500 238H570M500 238C540 238 530 358 570 358M740 118C780 118 770 178 810 178M740 358C780 358 770 298 810 298" />
      {cards.map(([x, y]) => <rect key={`${x},${y}`} x={x} y={y} width="170" height="56" rx="12" />)}
    </svg>
  );
}
