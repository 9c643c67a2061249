import { describe, expect, it } from "vitest";
import { series } from "../test/fixtures";
import { coarsen, latency, stackedTraffic } from "./series";

describe("series", () => {
  const s = series({ rate: [10, 20], errors: [1, 0], denied: [0, 2], throttled: [3, 0], p50: [5, -1], p95: [6, -1], p99: [7, -1] });
  it("stacks outcomes up to the rate", () => {
    expect(stackedTraffic(s).slice(1)).toEqual([[10, 20], [4, 2], [1, 2], [1, 0]]);
  });
  it("draws no latency in a second without requests", () => {
    expect(latency(s).slice(1)).toEqual([[5, null], [6, null], [7, null]]);
  });
  it("coarsens rates by mean and percentiles by worst", () => {
    const long = series({ rate: Array.from({ length: 150 }, (_, i) => i % 2), p99: Array.from({ length: 150 }, (_, i) => i) });
    const c = coarsen(long);
    expect(c.stepSeconds).toBe(2);
    expect(c.rate).toHaveLength(75);
    expect(c.rate[0]).toBe(0.5);
    expect(c.p99[0]).toBe(1);
  });
});
