// A stand-in for mesh-hub while the UI is developed: serves dist and the JSON
// API of api/topology/v1 with a living Bookinfo mesh. No dependencies.
//
//   node dev/mock-hub.mjs [--port 15080] [--empty] [--idle]
//
// --empty: no sidecar has ever connected. --idle: sidecars, but no requests.

import { randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { parseArgs } from "node:util";
import { MeshSim } from "./mesh-sim.mjs";

const { values: flags } = parseArgs({ options: { port: { type: "string", default: "15080" }, empty: { type: "boolean", default: false }, idle: { type: "boolean", default: false } } });
const dist = new URL("../dist/", import.meta.url).pathname;
const types = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".woff2": "font/woff2" };

const zero = { requests: 0, rate: 0, errors: 0, errorShare: 0, clientErrors: 0, denied: 0, throttled: 0, p50: 0, p95: 0, p99: 0, bytesIn: 0, bytesOut: 0 };
const sim = new MeshSim();
let sequence = 1;

function graph(window) {
  const sidecars = flags.idle ? 3 : 0;
  if (flags.empty || flags.idle) {
    return { schemaVersion: 1, sequence, timeMillis: Date.now(), windowSeconds: window, nodes: [], edges: [],
      mesh: { signals: zero, sidecars, sidecarsConnected: sidecars, records: 0, recordsLost: 0, lagMillis: -1 } };
  }
  return sim.graph(window, sequence);
}

function json(res, code, body) {
  res.writeHead(code, { "Content-Type": "application/json", "Cache-Control": "no-store" });
  res.end(JSON.stringify(body));
}

function stream(req, res, window) {
  res.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
  const send = (event, body) => res.write(`id: ${sequence}\nevent: ${event}\ndata: ${JSON.stringify(body)}\n\n`);
  send("graph", graph(window));
  const listener = () => {
    const { nodes, edges, mesh, timeMillis } = graph(window);
    send("delta", { sequence, timeMillis, nodes, edges, removedNodes: [], removedEdges: [], mesh });
  };
  listeners.add(listener);
  req.on("close", () => listeners.delete(listener));
}

function status() {
  return { schemaVersion: 1, version: "0.1.0", startMillis: sim.started, nowMillis: Date.now(), httpAddress: `127.0.0.1:${flags.port}`, grpcAddress: "127.0.0.1:15010", dataDir: "data",
    sidecars: [], services: [], store: { records: flags.empty ? 0 : sim.total, bytes: sim.total * 35, segments: 2, oldestMillis: sim.started - 900_000, corruptions: 0 },
    ingest: { batches: 900, duplicates: 0, rejected: 0, missing: 0, records: sim.total }, policies: [] };
}

function api(req, res, url) {
  const path = url.pathname.slice("/api/mesh/v1".length);
  const q = url.searchParams;
  const window = Number(q.get("window") ?? 60);
  if (path === "/graph/stream") return stream(req, res, window);
  if (path === "/graph") return json(res, 200, graph(window));
  if (path === "/graph/tidy") return json(res, 200, {});
  if (path === "/status") return json(res, 200, status());
  if (path === "/policies") return json(res, 200, { policies: [], errors: [] });
  if (path === "/series") {
    const kind = q.has("edge") ? "edge" : "node";
    const found = sim.series(kind, q.get(kind) ?? "", window);
    return found ? json(res, 200, found) : json(res, 404, { error: "no such node or edge", hint: "It may have been removed; reload the graph." });
  }
  if (path === "/requests") return json(res, 200, sim.requests(q.get("service"), q.get("status"), Number(q.get("limit") ?? 50)));
  if (path.startsWith("/requests/")) {
    const found = flags.empty ? null : sim.trace(decodeURIComponent(path.slice("/requests/".length)));
    return found ? json(res, 200, found) : json(res, 404, { error: "no request with this ID", hint: "Records are kept since the hub started." });
  }
  return json(res, 404, { error: `no route ${path}` });
}

async function file(res, url) {
  const path = join(dist, normalize(url.pathname));
  const isFile = await stat(path).then((s) => s.isFile(), () => false);
  if (isFile && !path.endsWith("index.html")) {
    res.writeHead(200, { "Content-Type": types[extname(path)] ?? "application/octet-stream" });
    return createReadStream(path).pipe(res);
  }
  const nonce = randomBytes(16).toString("base64url");
  const page = (await readFile(join(dist, "index.html"), "utf8")).replaceAll("__CSP_NONCE__", nonce);
  res.writeHead(200, { "Content-Type": types[".html"], "Content-Security-Policy":
    `default-src 'none'; script-src 'self'; style-src 'self' 'nonce-${nonce}'; img-src 'self'; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'` });
  res.end(page);
}

const listeners = new Set();
setInterval(() => {
  sequence++;
  sim.second(Math.floor(Date.now() / 1000));
  listeners.forEach((tell) => tell());
}, 1000);

createServer((req, res) => {
  const url = new URL(req.url, "http://localhost");
  if (url.pathname.startsWith("/api/")) return api(req, res, url);
  file(res, url).catch((cause) => json(res, 500, { error: String(cause), hint: "npm run build" }));
}).listen(Number(flags.port), "127.0.0.1", () => console.log(`mock hub on http://127.0.0.1:${flags.port}`));
