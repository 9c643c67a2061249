import type { Attempt, Hop, RequestRecord, Trace } from "../api/types_gen";
import { nanosToMillis } from "./format";
import { grpcStatusName } from "./grpc";

/** The way of one request through the graph. */
export interface RequestPath {
  readonly nodes: ReadonlySet<string>;
  /** A request may take an edge several times. */
  readonly hopsByEdge: ReadonlyMap<string, readonly PathHop[]>;
}

export interface PathHop {
  /** From 1, in call order. */
  readonly number: number;
  readonly durationMs: number;
  readonly failed: boolean;
}

export function pathOf(trace: Trace): RequestPath {
  const nodes = new Set<string>();
  const hopsByEdge = new Map<string, PathHop[]>();
  trace.hops.forEach((hop, i) => {
    for (const id of [hop.source, hop.destination]) {
      if (id !== "") nodes.add(id);
    }
    if (hop.edge === "") return;
    const here: PathHop = { number: i + 1, durationMs: hop.durationMs, failed: hop.failed };
    hopsByEdge.set(hop.edge, [...(hopsByEdge.get(hop.edge) ?? []), here]);
  });
  return { nodes, hopsByEdge };
}

/** One bar, in milliseconds from the trace's start. */
export interface Bar {
  readonly start: number;
  readonly length: number;
}

/** A row of the waterfall: the call as its caller saw it, and inside it the work of the callee. */
/** A sidecar was asked for headers and attempts, which may still come. */
export function detailsPending(trace: Trace): boolean {
  return trace.hops.some((hop) => hop.client?.detailsPending === true || hop.server?.detailsPending === true);
}

export interface WaterfallRow {
  readonly number: number;
  readonly hop: Hop;
  readonly depth: number;
  readonly client: Bar | null;
  readonly server: Bar | null;
  readonly record: RequestRecord | null;
}

export function waterfallOf(trace: Trace): WaterfallRow[] {
  const origin = nanosToMillis(trace.startUnixNano);
  const bar = (r: RequestRecord | undefined): Bar | null =>
    r ? { start: nanosToMillis(r.startUnixNano) - origin, length: r.durationMs } : null;
  return trace.hops.map((hop, i) => ({
    number: i + 1,
    hop,
    depth: hop.depth,
    client: bar(hop.client),
    server: bar(hop.server),
    // The caller's side also knows requests that never arrived.
    record: hop.client ?? hop.server ?? null,
  }));
}

/** The span of time the rows cover; at least the trace's own duration, never 0. */
export function extentOf(trace: Trace, rows: readonly WaterfallRow[]): number {
  const ends = rows.flatMap((row) => [row.client, row.server].map((b) => (b ? b.start + b.length : 0)));
  return Math.max(trace.durationMs, ...ends, 0.001);
}

/** Round tick positions, at most five, from 0 up to the extent. */
export function ticksOf(extent: number): number[] {
  const raw = extent / 4;
  const base = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * base).find((s) => s >= raw) ?? raw;
  const ticks: number[] = [];
  for (let t = 0; t <= extent * 1.0001; t += step) ticks.push(t);
  return ticks;
}

/** "GET /productpage", "/pkg.Service/Method" for gRPC, "TCP" without either. */
export function operationOf(r: RequestRecord): string {
  if (r.protocol === "grpc" || r.method === "") return r.path === "" ? r.protocol.toUpperCase() : r.path;
  return `${r.method} ${r.path}`;
}

/** The status as its protocol names it; "no response" when none came. */
export function statusOf(r: RequestRecord): string {
  if (r.grpcStatus !== "") return grpcStatusName(r.grpcStatus);
  return r.code === 0 ? (r.protocol === "tcp" ? "closed" : "no response") : String(r.code);
}

export type Outcome = "ok" | "client-error" | "refused" | "error";

/** Refused means by policy, which is the mesh doing its work rather than a fault. */
export function outcomeOf(r: RequestRecord): Outcome {
  if (r.verdict === "denied" || r.verdict === "throttled") return "refused";
  const grpcFailed = r.grpcStatus !== "" && r.grpcStatus !== "0" && r.grpcStatus.toUpperCase() !== "OK";
  if (r.code >= 500 || grpcFailed || (r.code === 0 && r.protocol !== "tcp" && r.grpcStatus === "")) return "error";
  return r.code >= 400 ? "client-error" : "ok";
}

/** True for a verdict that changed or would have changed the answer. */
export function isVerdict(verdict: string): boolean {
  return verdict !== "" && verdict !== "ok";
}

/** "throttled", "denied", "would be throttled", "would be denied". */
export function verdictText(verdict: string): string {
  return verdict.startsWith("shadow_") ? `would be ${verdict.slice("shadow_".length)}` : verdict;
}

const traceparent = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$/i;

/** What the reader typed, made fit for the hub: trimmed, a traceparent as its trace ID. */
export function normaliseID(text: string): string {
  const trimmed = text.trim().replace(/^["']|["']$/g, "");
  return traceparent.exec(trimmed)?.[1]?.toLowerCase() ?? trimmed;
}

/** True for what can only be meant as an ID: a UUID, 16 to 32 hex digits, a traceparent. */
export function looksLikeID(text: string): boolean {
  const id = normaliseID(text);
  return /^[0-9a-f]{16,32}$/i.test(id) || /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id);
}

/** How an attempt went, in few words. */
export function attemptResult(a: Attempt): string {
  if (a.grpcStatus !== "" && a.grpcStatus !== "0") return `gRPC ${a.grpcStatus}`;
  if (a.code > 0) return a.result === "ok" ? String(a.code) : `${a.code}, ${a.result.replaceAll("_", " ")}`;
  return a.result.replaceAll("_", " ");
}

/** Why the sidecar sent a request's details, where that says something of the request. */
export function triggerText(trigger: string): string {
  switch (trigger) {
    case "error": return "sent because it failed";
    case "flag": return "sent because of its response flag";
    case "denied": return "sent because policy refused it";
    case "retry": return "sent because it was tried again";
    case "slow": return "sent because it was slower than 99 % on its edge";
    default: return "";
  }
}
