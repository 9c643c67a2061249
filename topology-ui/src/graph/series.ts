import type { Series } from "../api/types_gen";

// More points than this cannot be told apart in a panel; below it every second is drawn.
const mostPoints = 75;

/** Columns as the chart wants them: seconds first, null where nothing was measured. */
export type Columns = readonly (readonly (number | null)[])[];

export function timesOf(s: Series): number[] {
  return s.rate.map((_, i) => s.startMillis / 1000 + i * s.stepSeconds);
}

/**
 * The same series in steps of several seconds: means of what is counted, the
 * worst of what is a percentile, because a mean of percentiles is none.
 */
export function coarsen(s: Series): Series {
  const size = Math.max(1, Math.ceil(s.rate.length / mostPoints));
  const by = (fold: (values: number[]) => number) => (column: readonly number[]) => {
    const out: number[] = [];
    for (let i = 0; i + size <= column.length; i += size) out.push(fold(column.slice(i, i + size)));
    return out;
  };
  const mean = by((values) => values.reduce((sum, v) => sum + v, 0) / values.length);
  const worst = by((values) => Math.max(...values));
  return {
    ...s,
    stepSeconds: s.stepSeconds * size,
    rate: mean(s.rate),
    errors: mean(s.errors),
    denied: mean(s.denied),
    throttled: mean(s.throttled),
    p50: worst(s.p50),
    p95: worst(s.p95),
    p99: worst(s.p99),
    inFlight: mean(s.inFlight),
    cpuCores: mean(s.cpuCores),
    memoryBytes: mean(s.memoryBytes),
  };
}

/**
 * Traffic split by outcome and stacked from the bottom: errors, then denied,
 * then throttled, then the rest. The tallest column comes first, so that each
 * drawn after it covers its foot.
 */
export function stackedTraffic(s: Series): Columns {
  const errors = s.errors;
  const denied = s.errors.map((v, i) => v + (s.denied[i] ?? 0));
  const throttled = denied.map((v, i) => v + (s.throttled[i] ?? 0));
  const all = throttled.map((v, i) => Math.max(v, s.rate[i] ?? 0));
  return [timesOf(s), all, throttled, denied, errors];
}

export function latency(s: Series): Columns {
  const known = (v: number) => (v < 0 ? null : v);
  return [timesOf(s), s.p50.map(known), s.p95.map(known), s.p99.map(known)];
}
