import { describe, expect, it } from "vitest";
import { failedParticles, particleCount, strokeWidth } from "./traffic";

describe("traffic", () => {
  it("grows with the rate and has an end", () => {
    const widths = [0, 1, 10, 1e3, 1e9].map(strokeWidth);
    expect([...widths].sort((a, b) => a - b)).toEqual(widths);
    expect(strokeWidth(1e12)).toBe(strokeWidth(1e9));
    expect(particleCount(0, 300)).toBe(0);
    expect(particleCount(1e9, 300)).toBeLessThanOrEqual(10);
  });
  it("shows a failure as soon as there is one", () => {
    expect(failedParticles(4, 0.001)).toBe(1);
    expect(failedParticles(4, 0)).toBe(0);
  });
});
