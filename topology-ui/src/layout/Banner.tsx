import { commands } from "../graph/commands";
import { formatAgo, formatWindow } from "../graph/format";
import { Icon } from "../parts/Icon";
import { useNow } from "../parts/useNow";
import { useLive, useServices } from "../state/context";
import type { Notice } from "./useSituation";

/** Says above the graph why it is not what it seems. */
export function Banner({ notice }: { notice: Notice }) {
  return (
    <div className="banner" data-cause={notice.cause} role="alert">
      {notice.cause === "hub-gone" ? <HubGone /> : <span>{text(notice)}</span>}
    </div>
  );
}

function text({ cause, connected, known, windowSeconds }: Notice): string {
  return cause === "sidecars-gone"
    ? `0 of ${known} sidecars are connected. What is shown is the last that they reported. \`${commands.status()}\` lists them.`
    : `0 requests in the last ${formatWindow(windowSeconds)}; ${connected} of ${known} sidecars are connected. Send traffic or choose a longer window.`;
}

function HubGone() {
  const { receivedMillis, phase } = useLive();
  const { connection } = useServices();
  const now = useNow(1000);
  return (
    <>
      <span>
        {phase === "stale" ? "The hub has gone silent." : "The hub does not answer."} What you see was true{" "}
        {now - receivedMillis < 2000 ? "a moment ago" : formatAgo(receivedMillis, now)}; requests go on without the hub.
      </span>
      <button type="button" className="text-button" onClick={() => connection.retryNow()}><Icon name="retry" size={13} />Try now</button>
    </>
  );
}
