// A Bookinfo mesh that lives in memory: every second some dozens of requests
// are made up, each with the records that its sidecars would have reported.
// Edges, series and traces are all derived from those same records, as in the
// hub, so that numbers on the screen agree with one another.

import { createHash, randomBytes, randomUUID } from "node:crypto";

const keepSeconds = 900;
const keepTraces = 4000;
const services = { details: 9080, reviews: 9080, ratings: 9080, productpage: 9080, loadgen: 0 };

const places = [
  ["loadgen-v1", "v1", "loadgen", 0, 110], ["productpage-v1", "v1", "productpage", 260, 110],
  ["details-v1", "v1", "details", 520, 275], ["reviews-v1", "v1", "reviews", 520, -55],
  ["reviews-v2", "v2", "reviews", 520, 55], ["reviews-v3", "v3", "reviews", 520, 165],
  ["ratings-v1", "v1", "ratings", 780, 110],
];
const links = [
  ["loadgen-v1", "productpage-v1"], ["productpage-v1", "details-v1"], ["productpage-v1", "reviews-v1"],
  ["productpage-v1", "reviews-v2"], ["productpage-v1", "reviews-v3"], ["reviews-v2", "ratings-v1"], ["reviews-v3", "ratings-v1"],
];

const hex = (bytes) => randomBytes(bytes).toString("hex");
const id = (workload) => `default/${workload}`;
const pick = (list) => list[Math.floor(Math.random() * list.length)];
const noise = (mean, spread = 0.35) => Math.max(0.05, mean * Math.exp((Math.random() + Math.random() - 1) * spread * 2));

export class MeshSim {
  constructor() {
    this.started = Date.now();
    this.nodes = new Map(places.map(([workload, version, service, x, y]) => [workload, { workload, version, service, x, y }]));
    this.edges = new Map(links.map(([s, d]) => [`${s}>${d}`, {
      id: createHash("sha256").update(`${s}>${d}`).digest("hex").slice(0, 16), source: s, destination: d, cells: [], sourceTotal: 0, destinationTotal: 0, first: 0, last: 0,
    }]));
    this.traces = new Map();
    this.records = [];
    this.total = 0;
    const now = Math.floor(Date.now() / 1000);
    for (let s = now - keepSeconds + 1; s <= now; s++) this.second(s);
  }

  // One second of traffic.
  second(unix) {
    for (const edge of this.edges.values()) {
      edge.cells.push({ unix, rows: [] });
      if (edge.cells.length > keepSeconds) edge.cells.shift();
    }
    const rate = 22 + 7 * Math.sin(unix / 37) + 3 * Math.sin(unix / 7) + Math.random() * 4;
    for (let i = 0; i < rate; i++) this.request(unix * 1000 + Math.random() * 1000);
    while (this.traces.size > keepTraces) this.traces.delete(this.traces.keys().next().value);
    this.records = this.records.slice(-6000);
  }

  request(startMs) {
    const requestId = randomUUID();
    const trace = { requestId, traceId: requestId.replaceAll("-", ""), start: startMs, calls: [], user: `curl/8.${Math.floor(Math.random() * 9)}.0` };
    const throttled = Math.random() < 0.018;
    const denied = !throttled && Math.random() < 0.003;
    const root = this.call(trace, null, "loadgen-v1", "productpage-v1", startMs, "GET", "/productpage?u=normal");
    if (throttled || denied) {
      Object.assign(root, { code: throttled ? 429 : 403, flags: throttled ? "RL" : "-", verdict: throttled ? "throttled" : "denied",
        rule: throttled ? "productpage-limit/per-client" : "productpage-access/no-bots", end: startMs + noise(0.4) });
    } else {
      this.productpage(trace, root);
    }
    this.finish(trace);
  }

  productpage(trace, root) {
    let at = root.start + noise(2.2);
    const details = this.call(trace, root, "productpage-v1", "details-v1", at, "GET", "/details/0");
    details.end = at + noise(3.1);
    at = details.end + noise(0.8);
    const version = pick(["reviews-v1", "reviews-v2", "reviews-v3"]);
    const reviews = this.call(trace, root, "productpage-v1", version, at, "GET", "/reviews/0");
    reviews.end = at + noise(4.2);
    if (version !== "reviews-v1") {
      const wave = 0.5 + 0.5 * Math.sin(trace.start / 60_000);
      const share = version === "reviews-v3" ? 0.08 + 0.1 * wave : 0.012;
      const begin = at + noise(2.4);
      const ratings = this.call(trace, reviews, version, "ratings-v1", begin, "GET", "/ratings/0");
      ratings.end = begin + noise(version === "reviews-v3" ? 14 : 4.4, 0.8);
      if (Math.random() < share) Object.assign(ratings, { code: 503, flags: pick(["UF", "UC"]), detail: "upstream_reset_before_response_started" });
      reviews.end = ratings.end + noise(1.3);
    }
    root.end = reviews.end + noise(1.6);
  }

  call(trace, parent, source, destination, start, method, path) {
    const call = { source, destination, start, end: start + 1, method, path, code: 200, flags: "-", verdict: "ok", rule: "", detail: "via_upstream",
      depth: parent ? parent.depth + 1 : 0, client: hex(8), server: hex(8), parentSpan: parent ? parent.server : "" };
    trace.calls.push(call);
    return call;
  }

  finish(trace) {
    trace.end = Math.max(...trace.calls.map((c) => c.end));
    this.traces.set(trace.traceId, trace);
    for (const call of trace.calls) {
      const edge = this.edges.get(`${call.source}>${call.destination}`);
      edge.cells.at(-1).rows.push(call);
      edge.sourceTotal++;
      if (!call.flags.includes("UF")) edge.destinationTotal++;
      edge.first ||= Math.floor(call.start);
      edge.last = Math.floor(call.end);
      this.total += 2;
      this.records.push({ trace, call });
    }
  }

  rows(edges, seconds) {
    return edges.flatMap((e) => e.cells.slice(-seconds).flatMap((c) => c.rows));
  }

  graph(seconds, sequence) {
    const nodes = [...this.nodes.values()].map((n) => this.node(n, seconds));
    return { schemaVersion: 1, sequence, timeMillis: Date.now(), windowSeconds: seconds, nodes,
      edges: [...this.edges.values()].map((e) => this.edge(e, seconds)), mesh: this.mesh(seconds) };
  }

  mesh(seconds) {
    const first = this.edges.get("loadgen-v1>productpage-v1");
    return { signals: signalsOf(this.rows([first], seconds), seconds), sidecars: 7, sidecarsConnected: 7, records: this.total, recordsLost: 0, lagMillis: 400 + Math.floor(Math.random() * 500) };
  }

  node(n, seconds) {
    const all = [...this.edges.values()];
    const into = all.filter((e) => e.destination === n.workload);
    const out = all.filter((e) => e.source === n.workload);
    const inbound = signalsOf(this.rows(into, seconds), seconds);
    const outbound = signalsOf(this.rows(out, seconds), seconds);
    const seen = [...into, ...out];
    return { id: id(n.workload), kind: "workload", cluster: "local", namespace: "default", workload: n.workload, service: n.service, version: n.version, x: n.x, y: n.y,
      ...healthOf(into.length ? inbound : outbound), inbound, outbound, saturation: saturationOf(inbound.rate + outbound.rate),
      instances: [{ name: `${n.workload}-0`, connected: true, appReachable: true, adminAddress: "127.0.0.1:15020", lastReportMillis: Date.now() - 600, softwareVersion: "0.1.0" }],
      firstSeenMillis: Math.min(...seen.map((e) => e.first)), lastSeenMillis: Math.max(...seen.map((e) => e.last)) };
  }

  edge(e, seconds) {
    const signals = signalsOf(this.rows([e], seconds), seconds);
    const gap = e.sourceTotal - e.destinationTotal;
    return { id: e.id, source: id(e.source), destination: id(e.destination), destinationService: this.host(e.destination), protocol: "http", security: "none",
      ...healthOf(signals), signals, reporter: "source", sourceTotal: e.sourceTotal, destinationTotal: e.destinationTotal,
      disagreement: gap / e.sourceTotal > 0.01, firstSeenMillis: e.first, lastSeenMillis: e.last };
  }

  host(workload) {
    return `${this.nodes.get(workload).service}.default.svc.cluster.local`;
  }

  series(kind, key, seconds) {
    const workload = key.replace(/^default\//, "");
    const all = [...this.edges.values()];
    let edges = kind === "edge" ? all.filter((e) => e.id === key) : all.filter((e) => e.destination === workload);
    if (kind === "node" && edges.length === 0) edges = all.filter((e) => e.source === workload);
    if (edges.length === 0) return null;
    const length = Math.min(seconds, edges[0].cells.length);
    const perSecond = Array.from({ length }, (_, i) => signalsOf(edges.flatMap((e) => e.cells[e.cells.length - length + i].rows), 1));
    const column = (read) => perSecond.map(read);
    return { id: key, startMillis: edges[0].cells[edges[0].cells.length - length].unix * 1000, stepSeconds: 1,
      rate: column((s) => s.requests), errors: column((s) => s.errors), denied: column((s) => s.denied), throttled: column((s) => s.throttled),
      p50: column((s) => (s.requests ? s.p50 : -1)), p95: column((s) => (s.requests ? s.p95 : -1)), p99: column((s) => (s.requests ? s.p99 : -1)),
      inFlight: column((s) => saturationOf(s.requests).inFlight), cpuCores: column((s) => saturationOf(s.requests).cpuCores),
      memoryBytes: column((s, i) => 23e6 + s.requests * 2e4 + (i % 60) * 1e4), responses: responsesOf(this.rows(edges, seconds)) };
  }

  trace(text) {
    const key = (/^[0-9a-f]{2}-([0-9a-f]{32})-/.exec(text)?.[1] ?? text).replaceAll("-", "").toLowerCase();
    const trace = this.traces.get(key);
    if (!trace) return null;
    const hops = trace.calls.map((call) => this.hop(trace, call));
    return { schemaVersion: 1, traceId: trace.traceId, requestId: trace.requestId, startUnixNano: nano(trace.start), durationMs: trace.end - trace.start,
      hops, gaps: hops.flatMap((h) => (h.gap ? [h.gap] : [])) };
  }

  hop(trace, call) {
    const arrived = !call.flags.includes("UF");
    const gap = arrived ? {} : { gap: `no record from ${call.destination}: the connection failed before it arrived` };
    return { depth: call.depth, offsetMs: call.start - trace.start, durationMs: call.end - call.start, client: this.record(trace, call, "source"),
      ...(arrived ? { server: this.record(trace, call, "destination") } : {}), ...gap,
      edge: this.edges.get(`${call.source}>${call.destination}`).id, source: id(call.source), destination: id(call.destination), failed: call.code >= 500 };
  }

  record(trace, call, reporter) {
    const inset = reporter === "source" ? 0 : Math.min(0.35, (call.end - call.start) * 0.08);
    const start = call.start + inset;
    const duration = call.end - call.start - 2 * inset;
    const party = (workload) => ({ node: id(workload), cluster: "local", namespace: "default", workload, service: this.nodes.get(workload).service, version: this.nodes.get(workload).version, instance: `${workload}-0` });
    const host = `${this.nodes.get(call.destination).service}:${services[this.nodes.get(call.destination).service]}`;
    const bytesOut = call.code === 200 ? 379 : 19;
    return { reporter, source: party(call.source), destination: party(call.destination), edge: this.edges.get(`${call.source}>${call.destination}`).id,
      destinationService: this.host(call.destination), startUnixNano: nano(start), durationMs: duration, firstByteMs: duration * 0.92,
      requestId: trace.requestId, traceId: trace.traceId, spanId: reporter === "source" ? call.client : call.server,
      parentSpanId: reporter === "source" ? call.parentSpan : call.client, sampled: true, protocol: "http", httpVersion: "HTTP/1.1", method: call.method,
      path: call.path, host, route: "default", code: call.code, grpcStatus: "", flags: call.flags === "-" ? "" : call.flags, detail: call.detail, bytesIn: 0, bytesOut,
      attempts: call.code === 503 ? 2 : 1, upstream: "127.0.0.1:9080", verdict: call.verdict, rule: call.rule, userAgent: trace.user,
      accessLog: `[${new Date(start).toISOString()}] "${call.method} ${call.path} HTTP/1.1" ${call.code} ${call.flags} ${call.detail} - "-" 0 ${bytesOut} ${duration.toFixed(0)} ${(duration * 0.92).toFixed(0)} "-" "${trace.user}" "${trace.requestId}" "${host}" "127.0.0.1:9080"` };
  }

  requests(service, status, limit) {
    const match = this.records.filter(({ call }) => (!service || [call.source, call.destination].some((w) => this.nodes.get(w).service === service || w === service)) && (!status || call.code >= 500));
    return { requests: match.slice(-limit).reverse().map(({ trace, call }) => this.record(trace, call, "destination")), truncated: match.length > limit };
  }
}

function nano(ms) {
  return String(BigInt(Math.round(ms * 1000)) * 1000n);
}

function signalsOf(rows, seconds) {
  const times = rows.map((c) => c.end - c.start).sort((a, b) => a - b);
  const at = (p) => times[Math.min(times.length - 1, Math.floor(times.length * p))] ?? 0;
  const errors = rows.filter((c) => c.code >= 500).length;
  const count = (verdict) => rows.filter((c) => c.verdict === verdict).length;
  return { requests: rows.length, rate: rows.length / seconds, errors, errorShare: rows.length ? errors / rows.length : 0, clientErrors: 0,
    denied: count("denied"), throttled: count("throttled"), p50: at(0.5), p95: at(0.95), p99: at(0.99), bytesIn: rows.length * 410, bytesOut: rows.length * 620 };
}

function healthOf(s) {
  if (s.requests === 0) return { health: "idle", healthReason: "no request in the window" };
  const percent = `${(s.errorShare * 100).toFixed(1)} % of requests fail`;
  if (s.errorShare >= 0.1) return { health: "failing", healthReason: percent };
  if (s.errorShare > 0.001) return { health: "degraded", healthReason: percent };
  if (s.denied + s.throttled > 0) return { health: "degraded", healthReason: `${s.denied + s.throttled} requests refused by policy` };
  return { health: "healthy", healthReason: "" };
}

function saturationOf(rate) {
  return { inFlight: Math.round(rate * 0.03 + Math.random()), poolActive: Math.round(rate * 0.05), poolIdle: 4, poolPending: 0,
    cpuCores: rate * 0.00013 + 0.002, memoryBytes: Math.round(23e6 + rate * 2e4), reportQueue: Math.min(0.9, rate * 0.0009) };
}

function responsesOf(rows) {
  const counts = new Map();
  for (const c of rows) {
    const key = `${c.code} ${c.flags} ${c.verdict}`;
    const entry = counts.get(key) ?? { code: c.code, flags: c.flags === "-" ? "" : c.flags, verdict: c.verdict, requests: 0 };
    entry.requests++;
    counts.set(key, entry);
  }
  return [...counts.values()].sort((a, b) => b.requests - a.requests);
}
