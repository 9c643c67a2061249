import { describe, expect, it } from "vitest";
import { edge, signals } from "../test/fixtures";
import { busiestNeighbour, layerNeighbour } from "./navigate";

describe("navigation", () => {
  const edges = [edge("1", "a", "b"), edge("2", "a", "c", { signals: signals({ rate: 5 }) }), edge("3", "a", "a", { signals: signals({ rate: 99 }) })];
  it("follows the busiest traffic, never to the node itself", () => {
    expect(busiestNeighbour(edges, "a", "callee")).toBe("c");
    expect(busiestNeighbour(edges, "b", "caller")).toBe("a");
    expect(busiestNeighbour(edges, "b", "callee")).toBeNull();
  });
  it("goes to the nearest in the layer", () => {
    const centres = new Map([["a", { x: 0, y: 0 }], ["b", { x: 0, y: 200 }], ["c", { x: 0, y: 100 }], ["d", { x: 300, y: 50 }]]);
    expect(layerNeighbour(centres, "a", 1)).toBe("c");
    expect(layerNeighbour(centres, "a", -1)).toBeNull();
  });
});
