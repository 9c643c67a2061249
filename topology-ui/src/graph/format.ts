/** Numbers as people read them: three significant digits at most, unit apart. */

const missing = "–";

/** Requests per second, "0", "0.42", "12.3", "1.2k". */
export function formatRate(perSecond: number): string {
  if (perSecond <= 0) return "0";
  if (perSecond < 0.01) return "<0.01";
  if (perSecond < 1) return perSecond.toFixed(2);
  return shorten(perSecond);
}

/** A share from 0 to 1 as per cent, "0%", "<0.1%", "2.4%", "37%". */
export function formatShare(share: number): string {
  const percent = share * 100;
  if (percent <= 0) return "0%";
  if (percent < 0.1) return "<0.1%";
  return `${percent < 9.95 ? percent.toFixed(1) : percent.toFixed(0)}%`;
}

/** Milliseconds, "–" when there was no request to measure. */
export function formatMillis(ms: number, requests = 1): string {
  if (requests === 0 || ms < 0 || !Number.isFinite(ms)) return missing;
  if (ms < 1) return ms < 0.01 ? "<0.01 ms" : `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${ms.toFixed(0)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(ms < 9_950 ? 2 : 1)} s`;
  return `${(ms / 60_000).toFixed(1)} min`;
}

/** Counts: exact below ten thousand, then "12.3k", "4.56M". */
export function formatCount(count: number): string {
  return count < 10_000 ? count.toLocaleString("en-US") : shorten(count);
}

export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 99.95 ? value.toFixed(0) : value.toFixed(1)} ${units[unit] ?? ""}`;
}

/** How long ago, coarse: "now", "12 s ago", "4 min ago", "3 h ago", "2 d ago". */
export function formatAgo(millis: number, now: number): string {
  if (millis <= 0) return "never";
  const seconds = Math.max(0, (now - millis) / 1000);
  if (seconds < 2) return "now";
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} d ago`;
}

/** A window or an age in words: "10 s", "1 min", "15 min". */
export function formatWindow(seconds: number): string {
  return seconds < 60 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

/** Wall-clock time with milliseconds, in the reader's zone. */
export function formatClock(unixMillis: number): string {
  const d = new Date(unixMillis);
  const pad = (n: number, width = 2) => String(n).padStart(width, "0");
  return `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}.${pad(d.getMilliseconds(), 3)}`;
}

/** The hub sends nanoseconds as text because they exceed a double's precision. */
export function nanosToMillis(unixNano: string): number {
  return Number(BigInt(unixNano) / 1000n) / 1000;
}

function shorten(value: number): string {
  const units = ["", "k", "M", "G", "T"];
  let v = value;
  let unit = 0;
  while (v >= 999.5 && unit < units.length - 1) {
    v /= 1000;
    unit++;
  }
  const digits = v < 9.95 ? (unit === 0 ? 1 : 2) : v < 99.95 ? 1 : 0;
  return `${v.toFixed(digits)}${units[unit] ?? ""}`;
}
