import type { Delta, Edge, Graph, Hop, Mesh, Node, RequestRecord, Series, Signals, Trace } from "../api/types_gen";

/** Whole documents with dull values; a test says only what it is about. */

export function signals(part: Partial<Signals> = {}): Signals {
  return {
    requests: 60, rate: 1, errors: 0, errorShare: 0, clientErrors: 0, denied: 0, throttled: 0,
    p50: 5, p95: 20, p99: 40, bytesIn: 0, bytesOut: 0, ...part,
  };
}

export function node(id: string, part: Partial<Node> = {}): Node {
  return {
    id, kind: "workload", cluster: "local", namespace: "default", workload: id.replace("default/", ""), service: id.replace("default/", ""),
    version: "", x: 0, y: 0, health: "healthy", healthReason: "", inbound: signals(), outbound: signals(),
    saturation: { inFlight: 0, poolActive: 0, poolIdle: 0, poolPending: 0, cpuCores: 0, memoryBytes: 0, reportQueue: 0 },
    instances: [], firstSeenMillis: 1, lastSeenMillis: 2, ...part,
  };
}

export function edge(id: string, source: string, destination: string, part: Partial<Edge> = {}): Edge {
  return {
    id, source, destination, destinationService: `${destination}.default.svc`, protocol: "http", security: "none",
    health: "healthy", healthReason: "", signals: signals(), reporter: "source", sourceTotal: 1, destinationTotal: 1,
    disagreement: false, firstSeenMillis: 1, lastSeenMillis: 2, ...part,
  };
}

export function mesh(part: Partial<Mesh> = {}): Mesh {
  return { signals: signals(), sidecars: 2, sidecarsConnected: 2, records: 10, recordsLost: 0, lagMillis: 500, ...part };
}

export function graph(nodes: Node[], edges: Edge[], part: Partial<Graph> = {}): Graph {
  return { schemaVersion: 1, sequence: 1, timeMillis: 0, windowSeconds: 60, nodes, edges, mesh: mesh(), ...part };
}

export function delta(sequence: number, part: Partial<Delta> = {}): Delta {
  return { sequence, timeMillis: 0, nodes: [], edges: [], removedNodes: [], removedEdges: [], mesh: mesh(), ...part };
}

export function record(part: Partial<RequestRecord> = {}): RequestRecord {
  const party = { node: "", cluster: "", namespace: "", workload: "", service: "", version: "", instance: "" };
  return {
    reporter: "source", source: party, destination: party, edge: "e", destinationService: "s", startUnixNano: "1000000000", durationMs: 10,
    firstByteMs: 5, requestId: "r", traceId: "t", spanId: "a", parentSpanId: "", sampled: true, protocol: "http", httpVersion: "HTTP/1.1",
    method: "GET", path: "/", host: "h", route: "", code: 200, grpcStatus: "", flags: "", detail: "", bytesIn: 0, bytesOut: 0, attempts: 1,
    upstream: "", verdict: "ok", rule: "", userAgent: "", accessLog: "line", ...part,
  };
}

export function hop(source: string, destination: string, part: Partial<Hop> = {}): Hop {
  return { depth: 0, offsetMs: 0, durationMs: 10, edge: `${source}>${destination}`, source, destination, failed: false, ...part };
}

export function trace(hops: Hop[], part: Partial<Trace> = {}): Trace {
  return { schemaVersion: 1, traceId: "t", requestId: "r", startUnixNano: "1000000000", durationMs: 10, hops, gaps: [], ...part };
}

export function series(part: Partial<Series> = {}): Series {
  return {
    id: "x", startMillis: 1_000, stepSeconds: 1, rate: [], errors: [], denied: [], throttled: [], p50: [], p95: [], p99: [],
    inFlight: [], cpuCores: [], memoryBytes: [], responses: [], ...part,
  };
}
