import { describe, expect, it } from "vitest";
import { edge, signals } from "../test/fixtures";
import { sortEdges } from "./sort";

describe("sortEdges", () => {
  const edges = [
    edge("1", "b", "x", { health: "failing", signals: signals({ rate: 3 }) }),
    edge("2", "a", "y", { health: "idle", signals: signals({ rate: 3 }) }),
    edge("3", "c", "z", { health: "degraded", signals: signals({ rate: 9 }) }),
  ];
  it("sorts numbers, names and health, ties by ID", () => {
    const ids = (column: Parameters<typeof sortEdges>[1]) => sortEdges(edges, column).map((e) => e.id).join("");
    expect(ids({ column: "rate", descending: true })).toBe("312");
    expect(ids({ column: "source", descending: false })).toBe("213");
    expect(ids({ column: "health", descending: true })).toBe("132");
  });
});
