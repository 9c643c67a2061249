import { describe, expect, it } from "vitest";
import { hop, record, trace } from "../test/fixtures";
import { extentOf, looksLikeID, normaliseID, operationOf, outcomeOf, pathOf, statusOf, ticksOf, verdictText, waterfallOf } from "./request";

const traceID = "4bf92f3577b34da6a3ce929d0e0e4736";

describe("pathOf", () => {
  it("numbers hops in call order and keeps each use of an edge", () => {
    const path = pathOf(trace([hop("a", "b"), hop("b", "c", { failed: true }), hop("b", "c")]));
    expect([...path.nodes]).toEqual(["a", "b", "c"]);
    expect(path.hopsByEdge.get("b>c")?.map((h) => [h.number, h.failed])).toEqual([[2, true], [3, false]]);
  });

  it("lights what is known of a hop without an edge", () => {
    const path = pathOf(trace([hop("", "b", { edge: "" })]));
    expect([...path.nodes]).toEqual(["b"]);
    expect(path.hopsByEdge.size).toBe(0);
  });
});

describe("waterfallOf", () => {
  it("places both sides from the trace's start, to the microsecond", () => {
    const t = trace([
      hop("a", "b", {
        client: record({ startUnixNano: "1732150000000000000", durationMs: 10 }),
        server: record({ startUnixNano: "1732150000001500000", durationMs: 7 }),
      }),
    ], { startUnixNano: "1732150000000000000" });
    const [row] = waterfallOf(t);
    expect(row?.client).toEqual({ start: 0, length: 10 });
    expect(row?.server?.start).toBeCloseTo(1.5, 3);
  });

  it("covers a side that outlasts the trace's own duration", () => {
    const t = trace([hop("a", "b", { client: record({ durationMs: 25 }) })]);
    expect(extentOf(t, waterfallOf(t))).toBe(25);
  });

  it("keeps a hop of which only one side is known", () => {
    const [row] = waterfallOf(trace([hop("a", "b", { server: record({ code: 204 }) })]));
    expect(row?.client).toBeNull();
    expect(row?.record?.code).toBe(204);
  });
});

describe("ticksOf", () => {
  it.each([0.02, 1, 7, 29, 133, 1000, 61_234])("gives round steps up to %d", (extent) => {
    const ticks = ticksOf(extent);
    expect(ticks[0]).toBe(0);
    expect(ticks.length).toBeGreaterThanOrEqual(2);
    expect(ticks.length).toBeLessThanOrEqual(5);
    expect(ticks.at(-1)!).toBeLessThanOrEqual(extent * 1.0001);
  });
});

describe("outcomeOf", () => {
  it.each([
    [{ code: 200 }, "ok"],
    [{ code: 404 }, "client-error"],
    [{ code: 503 }, "error"],
    [{ code: 0 }, "error"],
    [{ code: 0, protocol: "tcp" }, "ok"],
    [{ code: 200, protocol: "grpc", grpcStatus: "14" }, "error"],
    [{ code: 200, protocol: "grpc", grpcStatus: "0" }, "ok"],
    [{ code: 429, verdict: "throttled" }, "refused"],
    [{ code: 403, verdict: "denied" }, "refused"],
    [{ code: 200, verdict: "shadow_denied" }, "ok"],
  ])("takes %o for %s", (part, want) => {
    expect(outcomeOf(record(part))).toBe(want);
  });
});

describe("words", () => {
  it("names operation, status and verdict as the protocol does", () => {
    expect(operationOf(record({ method: "GET", path: "/x" }))).toBe("GET /x");
    expect(operationOf(record({ protocol: "grpc", method: "POST", path: "/pkg.S/M" }))).toBe("/pkg.S/M");
    expect(statusOf(record({ code: 0 }))).toBe("no response");
    expect(statusOf(record({ code: 404 }))).toBe("404");
    expect(statusOf(record({ protocol: "grpc", grpcStatus: "0" }))).toBe("OK");
    expect(statusOf(record({ protocol: "grpc", grpcStatus: "14" }))).toBe("UNAVAILABLE");
    expect(verdictText("shadow_throttled")).toBe("would be throttled");
  });
});

describe("normaliseID", () => {
  it.each([
    [`  ${traceID}\n`, traceID],
    [`00-${traceID}-00f067aa0ba902b7-01`, traceID],
    [`"${traceID}"`, traceID],
    ["my own id", "my own id"],
  ])("reads %j", (text, want) => expect(normaliseID(text)).toBe(want));

  it("tells IDs from names", () => {
    expect(looksLikeID("4bf92f35-77b3-4da6-a3ce-929d0e0e4736")).toBe(true);
    expect(looksLikeID(traceID)).toBe(true);
    expect(looksLikeID("reviews-v2")).toBe(false);
  });
});
