import type { Attempt, Details, Head, RequestRecord } from "../api/types_gen";
import { formatMillis } from "../graph/format";
import { nameOfID } from "../graph/names";
import { attemptResult, isVerdict, triggerText, verdictText, type WaterfallRow } from "../graph/request";
import { Icon } from "../parts/Icon";

/** Headers, attempts and policy decisions of each hop, as its two sidecars saw them. */
export function RequestDetails({ rows }: { rows: readonly WaterfallRow[] }) {
  const opened = rows.find((row) => row.hop.failed) ?? rows[0];
  return (
    <section className="section" aria-label="Details">
      <h3>Details</h3>
      <ol className="detail-list">
        {rows.map((row) => (
          <li key={row.number}>
            <details open={row === opened}>
              <summary>
                <span className="hop-number" data-failed={row.hop.failed}>{row.number}</span>
                <span className="hop-name">{nameOfID(row.hop.source)} <span className="muted">→</span> <b>{nameOfID(row.hop.destination)}</b></span>
                <span className="muted">{summaryOf(row)}</span>
              </summary>
              {row.hop.client && <Side record={row.hop.client} side="caller" />}
              {row.hop.server && <Side record={row.hop.server} side="callee" />}
            </details>
          </li>
        ))}
      </ol>
    </section>
  );
}

function summaryOf({ hop }: WaterfallRow): string {
  const sides = [hop.client, hop.server].filter((r) => r !== undefined);
  const there = sides.filter((r) => r.details).length;
  if (there === sides.length) return "";
  if (sides.some((r) => r.detailsPending)) return "on its way";
  return there === 0 ? "none" : "one side";
}

function Side({ record, side }: { record: RequestRecord; side: "caller" | "callee" }) {
  const { details } = record;
  return (
    <div className="detail-side">
      <h4>
        <i data-side={side === "caller" ? "client" : "server"} />At the {side}’s sidecar
        {details && <span className="muted">{triggerText(details.trigger)}</span>}
      </h4>
      {details ? <Kept details={details} /> : <p className="note" aria-busy={record.detailsPending === true}>{record.detailsMissing ?? "no details"}</p>}
    </div>
  );
}

function Kept({ details }: { details: Details }) {
  return (
    <>
      {details.attempts.length > 0 && <Attempts attempts={details.attempts} />}
      {details.decisions.map((d, i) => (
        <p key={`${i} ${d.rule}`} className="detail-policy">
          <Icon name="shield" size={12} />
          {isVerdict(d.verdict) ? verdictText(d.verdict) : "policy: nothing against it"}
          {d.policy && <> by <code>{d.policy}/{d.rule}</code></>}
          <span className="muted">decided in {formatMillis(d.durationMs)}</span>
        </p>
      ))}
      <HeadOf title="Request" head={details.request} />
      <HeadOf title="Response" head={details.response} />
      <HeadOf title="Trailers" head={details.trailers} />
    </>
  );
}

function Attempts({ attempts }: { attempts: readonly Attempt[] }) {
  return (
    <table className="attempts">
      <thead><tr><th scope="col">Attempt</th><th scope="col">at</th><th scope="col">connect</th><th scope="col">first byte</th><th scope="col">total</th><th scope="col">result</th></tr></thead>
      <tbody>
        {attempts.map((a, i) => (
          <tr key={`${i} ${a.upstream}`}>
            <td><code>{a.upstream}</code></td>
            <td>{a.offsetMs > 0 ? formatMillis(a.offsetMs) : "0"}</td>
            <td>{a.connectMs > 0 ? formatMillis(a.connectMs) : "reused"}</td>
            <td>{a.firstByteMs > 0 ? formatMillis(a.firstByteMs) : "–"}</td>
            <td>{formatMillis(a.durationMs)}</td>
            <td data-failed={a.result !== "ok"} title={a.detail}>{attemptResult(a)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function HeadOf({ title, head }: { title: string; head: Head | undefined }) {
  if (!head) return null;
  return (
    <div className="message-head">
      <h5>{title}</h5>
      {head.line && <code className="message-line">{head.line}</code>}
      <dl aria-label={`${title} headers`}>
        {head.fields.map((f, i) => (
          <div key={`${i} ${f.name}`}><dt>{f.name}</dt><dd data-redacted={f.redacted === true}>{f.value}</dd></div>
        ))}
      </dl>
      {head.truncated && <p className="note">The rest was too long to be kept.</p>}
    </div>
  );
}
