import { describe, expect, it, vi } from "vitest";
import { delta, edge, graph, node, signals } from "../test/fixtures";
import { GraphStore } from "./store";

function filled(): GraphStore {
  const store = new GraphStore();
  store.setGraph(graph([node("a"), node("b", { x: 260 })], [edge("ab", "a", "b")]));
  return store;
}

describe("GraphStore", () => {
  it("keeps the structure when a delta changes numbers only", () => {
    const store = filled();
    const before = store.structure();
    store.applyDelta(delta(2, { nodes: [node("a", { inbound: signals({ rate: 9 }) })], edges: [edge("ab", "a", "b", { health: "failing" })] }));
    expect(store.structure()).toBe(before);
    expect(store.node("a")?.inbound.rate).toBe(9);
    expect(store.edge("ab")?.health).toBe("failing");
  });

  it("wakes those who read what changed, and nobody else", () => {
    const store = filled();
    const [a, b, ab, shape] = [vi.fn(), vi.fn(), vi.fn(), vi.fn()];
    store.subscribeNode("a", a);
    store.subscribeNode("b", b);
    store.subscribeEdge("ab", ab);
    store.subscribeStructure(shape);
    store.applyDelta(delta(2, { nodes: [node("a")] }));
    expect([a, b, ab, shape].map((f) => f.mock.calls.length)).toEqual([1, 0, 0, 0]);
  });

  it("stops waking a reader that left", () => {
    const store = filled();
    const wake = vi.fn();
    store.subscribeNode("a", wake)();
    store.applyDelta(delta(2, { nodes: [node("a")] }));
    expect(wake).not.toHaveBeenCalled();
  });

  it("reshapes when the hub moves, adds or removes", () => {
    const store = filled();
    const shapes = new Set([store.structure()]);
    const step = (d: Parameters<typeof store.applyDelta>[0]) => {
      store.applyDelta(d);
      shapes.add(store.structure());
    };
    step(delta(2, { nodes: [node("a", { x: 1 })] }));
    step(delta(3, { nodes: [node("c")] }));
    step(delta(4, { removedEdges: ["ab"] }));
    step(delta(5, { removedNodes: ["c"] }));
    expect(shapes.size).toBe(5);
    expect(store.structure()).toEqual({ placements: [{ id: "a", x: 1, y: 0 }, { id: "b", x: 260, y: 0 }], links: [] });
  });

  it("refuses an older delta and takes the newest once more", () => {
    const store = filled();
    store.applyDelta(delta(5));
    expect(store.applyDelta(delta(4, { nodes: [node("z")] }))).toBe(false);
    expect(store.node("z")).toBeUndefined();
    expect(store.applyDelta(delta(5, { nodes: [node("a")] }))).toBe(true);
  });

  it("drops on a whole graph what that does not hold, whatever its sequence", () => {
    const store = filled();
    store.applyDelta(delta(7));
    store.setGraph(graph([node("b")], [], { sequence: 3 }));
    expect(store.allNodes().map((n) => n.id)).toEqual(["b"]);
    expect(store.sequence()).toBe(3);
  });

  it("leaves out of the structure an edge with an unknown end", () => {
    const store = new GraphStore();
    store.setGraph(graph([node("a")], [edge("ax", "a", "x")]));
    expect(store.structure().links).toEqual([]);
    expect(store.allEdges()).toHaveLength(1);
  });
});
