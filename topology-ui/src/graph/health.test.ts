import { describe, expect, it } from "vitest";
import { healthDisplay, healthOrder } from "./health";

describe("health", () => {
  it("has a shape of its own for every state", () => {
    expect(new Set(healthOrder.map((h) => healthDisplay(h).outline)).size).toBe(healthOrder.length);
    expect(new Set(healthOrder.map((h) => healthDisplay(h).mark)).size).toBe(healthOrder.length);
  });
});
