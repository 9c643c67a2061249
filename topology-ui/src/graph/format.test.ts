import { describe, expect, it } from "vitest";
import { formatAgo, formatBytes, formatCount, formatMillis, formatRate, formatShare, formatWindow, nanosToMillis } from "./format";

describe("format", () => {
  it.each([[0, "0"], [0.004, "<0.01"], [0.424, "0.42"], [9.94, "9.9"], [12.34, "12.3"], [999, "999"], [1234, "1.23k"], [45_600, "45.6k"]])("rate %d is %s", (n, want) => expect(formatRate(n)).toBe(want));
  it.each([[0, "0%"], [0.0004, "<0.1%"], [0.0238, "2.4%"], [0.0999, "10%"], [1, "100%"]])("share %d is %s", (n, want) => expect(formatShare(n)).toBe(want));
  it.each([[0.004, "<0.01 ms"], [0.42, "0.42 ms"], [4.25, "4.3 ms"], [38.4, "38 ms"], [1234, "1.23 s"], [61_000, "1.0 min"], [-1, "–"]])("duration %d is %s", (n, want) => expect(formatMillis(n)).toBe(want));
  it.each([[0, "0 B"], [1500, "1.5 kB"], [23_900_000, "23.9 MB"]])("size %d is %s", (n, want) => expect(formatBytes(n)).toBe(want));

  it("has no latency where there was no request", () => expect(formatMillis(0, 0)).toBe("–"));
  it("keeps small counts exact", () => expect([formatCount(9999), formatCount(12_345)]).toEqual(["9,999", "12.3k"]));
  it("names ages and windows", () => {
    expect([0, 99_500, 88_000, 0].map((t, i) => (i === 0 ? formatAgo(0, 1) : formatAgo(t || 1, 100_000)))).toEqual(["never", "now", "12 s ago", "2 min ago"]);
    expect([10, 60, 900].map(formatWindow)).toEqual(["10 s", "1 min", "15 min"]);
  });
  it("keeps microseconds of nanoseconds", () => expect(nanosToMillis("1732150000123456789")).toBeCloseTo(1_732_150_000_123.456, 3));
});
