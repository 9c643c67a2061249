import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { getSeries } from "../api/client";
import type { ResponseCount, Series } from "../api/types_gen";
import { formatBytes, formatCount, formatMillis, formatRate, formatShare, formatWindow } from "../graph/format";
import { coarsen, latency, stackedTraffic, timesOf, type Columns } from "../graph/series";
import { verdictText } from "../graph/request";
import { useView } from "../state/context";
import { Chart, type Line } from "./Chart";
import { Sparkline } from "./Sparkline";

// Less than this and a chart shows no course.
const leastSeconds = 300;

const trafficLines: readonly Line[] = [
  { label: "all", colour: "--chart-ok", style: "area" },
  { label: "throttled", colour: "--chart-throttled", style: "solid" },
  { label: "denied", colour: "--chart-denied", style: "solid" },
  { label: "errors", colour: "--chart-error", style: "solid" },
];

const latencyLines: readonly Line[] = [
  { label: "p50", colour: "--chart-p50", style: "line" },
  { label: "p95", colour: "--chart-p95", style: "line" },
  { label: "p99", colour: "--chart-p99", style: "dashed" },
];

const asMillis = (v: number) => formatMillis(v);

/** Traffic, errors, latency and saturation of one node or edge, second by second. */
export function SignalCharts({ kind, id }: { kind: "node" | "edge"; id: string }) {
  const { windowSeconds } = useView();
  const seconds = Math.max(leastSeconds, windowSeconds);
  const { data, error } = useQuery({
    queryKey: ["series", kind, id, seconds],
    queryFn: ({ signal }) => getSeries(kind, id, seconds, signal),
    refetchInterval: 2_000,
    placeholderData: (previous) => (previous?.id === id ? previous : undefined),
  });
  if (!data) {
    return <div className="charts-wait" aria-busy={error === null}>{error ? error.message : "Loading charts…"}</div>;
  }
  return (
    <>
      <Drawn series={data} withSaturation={kind === "node"} />
      <Responses counts={data.responses} seconds={seconds} />
    </>
  );
}

function Drawn({ series: full, withSaturation }: { series: Series; withSaturation: boolean }) {
  const series = useMemo(() => coarsen(full), [full]);
  const traffic = useMemo(() => stackedTraffic(series), [series]);
  const separate = useMemo<Columns>(() => [timesOf(series), series.rate, series.throttled, series.denied, series.errors], [series]);
  const times = useMemo(() => latency(series), [series]);
  return (
    <section className="section" aria-label="Golden signals over time">
      <Chart title="Traffic, per second" columns={traffic} readings={separate} lines={trafficLines} format={formatRate} />
      <Chart title={`Latency, worst of each ${formatWindow(series.stepSeconds)}`} columns={times} lines={latencyLines} format={asMillis} />
      {withSaturation && (
        <div className="sparks">
          <Spark label="In flight" values={full.inFlight} format={formatCount} />
          <Spark label="Sidecar CPU" values={full.cpuCores} format={formatShare} />
          <Spark label="Sidecar memory" values={full.memoryBytes} format={formatBytes} />
        </div>
      )}
    </section>
  );
}

function Spark({ label, values, format }: { label: string; values: readonly number[]; format: (v: number) => string }) {
  return (
    <div className="spark">
      <span className="figure-label">{label}</span>
      <b>{format(values.at(-1) ?? 0)}</b>
      <Sparkline values={values} />
    </div>
  );
}

/** Responses of the window by code, flags and verdict. */
function Responses({ counts, seconds }: { counts: readonly ResponseCount[]; seconds: number }) {
  const total = counts.reduce((sum, c) => sum + c.requests, 0);
  if (total === 0) return null;
  return (
    <section className="section" aria-label="Responses">
      <h3>Responses in the last {formatWindow(seconds)}</h3>
      <ul className="responses">
        {counts.map((c) => (
          <li key={`${c.code} ${c.flags} ${c.verdict}`}>
            <span className="code" data-class={codeClass(c)}>{c.code === 0 ? "none" : c.code}</span>
            <span className="response-why">{whyOf(c)}</span>
            <span className="response-bar"><i data-class={codeClass(c)} style={{ width: `${Math.max(1, (c.requests / total) * 100)}%` }} /></span>
            <span className="number">{formatCount(c.requests)}</span>
            <span className="number muted">{formatShare(c.requests / total)}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function whyOf(c: ResponseCount): string {
  return [c.flags === "-" ? "" : c.flags, c.verdict === "ok" ? "" : verdictText(c.verdict)].filter((t) => t !== "").join(" · ");
}

function codeClass(c: ResponseCount): string {
  if (c.verdict === "denied" || c.verdict === "throttled") return "refused";
  return c.code >= 500 || c.code === 0 ? "error" : c.code >= 400 ? "client-error" : "ok";
}
