import { useNow } from "../parts/useNow";
import { useLive } from "../state/context";

/**
 * How far the page is behind the mesh: the age that the newest sample had when
 * the hub sent it, and the time since. Without news the number grows, and after
 * three seconds it no longer says live.
 */
export function LiveClock({ lagMillis }: { lagMillis: number }) {
  const { phase, receivedMillis, retryMillis, attempt } = useLive();
  const now = useNow(200);
  const silent = Math.max(0, now - receivedMillis) / 1000;
  const behind = (silent + Math.max(0, lagMillis) / 1000).toFixed(1);
  const text = {
    connecting: "connecting…",
    live: lagMillis < 0 ? "live · no sample yet" : `live · ${behind} s behind`,
    stale: `stale · silent for ${silent.toFixed(0)} s`,
    reconnecting: `reconnecting… attempt ${attempt}, next ${nextIn(retryMillis - now)}`,
  }[phase];
  return (
    <div className="live" data-phase={phase} role="status" aria-live="off">
      <span className="live-dot" aria-hidden="true" />
      {text}
    </div>
  );
}

function nextIn(millis: number): string {
  return millis <= 0 ? "now" : `in ${Math.ceil(millis / 1000)} s`;
}
