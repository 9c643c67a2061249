import { useQuery } from "@tanstack/react-query";
import { getStatus, type HubError } from "../api/client";
import { commands } from "../graph/commands";
import { formatAgo, formatCount } from "../graph/format";
import { looksLikeID } from "../graph/request";
import { Command } from "../parts/Command";
import { useNow } from "../parts/useNow";
import { useMesh } from "../state/context";
import { PanelHead } from "./PanelHead";

/** Nothing found: where was looked, how fresh that is, and what to try. */
export function UnknownRequest({ id, error, close }: { id: string; error: HubError; close: () => void }) {
  const { data } = useQuery({ queryKey: ["status"], queryFn: ({ signal }) => getStatus(signal), refetchInterval: 3_000 });
  const mesh = useMesh();
  const now = useNow(1000);
  return (
    <>
      <PanelHead kicker="request" title="No such request" close={close}>
        <p className="searched"><code>{id}</code></p>
      </PanelHead>
      <div className="panel-body">
        <p className="note strong">{sentence(error.message)} {sentence(error.hint)}</p>
        <section className="section">
          <h3>Where was looked</h3>
          <dl className="facts">
            {data && <div><dt>Records searched</dt><dd>{formatCount(data.store.records)}</dd></div>}
            {data && <div><dt>Oldest record</dt><dd>{formatAgo(data.store.oldestMillis, now)}</dd></div>}
            {mesh && <div><dt>Newest sample</dt><dd>{mesh.lagMillis < 0 ? "none yet" : `${(mesh.lagMillis / 1000).toFixed(1)} s old`}</dd></div>}
            {mesh && <div><dt>Sidecars connected</dt><dd>{mesh.sidecarsConnected} of {mesh.sidecars}</dd></div>}
          </dl>
          <p className="note" role="status">Looking again every 3 s, in case its records are still on their way.</p>
        </section>
        <section className="section">
          <h3>What to try</h3>
          <ul className="hints">
            {!looksLikeID(id) && <li>This does not look like an ID that the mesh makes: a UUID, or 32 hexadecimal digits.</li>}
            <li>Compare it with the <code>x-request-id</code> header of the answer, character by character.</li>
            <li>Only requests that passed a sidecar are known. Call the service through its sidecar&rsquo;s address.</li>
          </ul>
          <Command line={commands.request(id)} label="Copy as meshctl command" />
        </section>
      </div>
    </>
  );
}

/** The hub's errors are lower case and without a full stop, as Go's are. */
function sentence(text: string): string {
  if (text === "") return "";
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}
