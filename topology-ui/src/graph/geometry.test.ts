import { describe, expect, it } from "vitest";
import { cardBox, cardHeight, cardWidth, hitTest, labelHeight, labelWidth, pointAt, sceneOf, type Box } from "./geometry";
import type { Structure } from "./store";

/** Bookinfo as the hub lays it out. */
const bookinfo: Structure = {
  placements: [
    { id: "loadgen", x: 0, y: 110 },
    { id: "productpage", x: 260, y: 110 },
    { id: "reviews-v1", x: 520, y: -55 },
    { id: "reviews-v2", x: 520, y: 55 },
    { id: "reviews-v3", x: 520, y: 165 },
    { id: "details", x: 520, y: 275 },
    { id: "ratings", x: 780, y: 110 },
  ],
  links: [
    ["loadgen", "productpage"],
    ["productpage", "reviews-v1"],
    ["productpage", "reviews-v2"],
    ["productpage", "reviews-v3"],
    ["productpage", "details"],
    ["reviews-v2", "ratings"],
    ["reviews-v3", "ratings"],
  ].map(([source, destination]) => ({ id: `${source}>${destination}`, source: source!, destination: destination! })),
};

function overlaps(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

function labelBox(at: { x: number; y: number }): Box {
  return { left: at.x - labelWidth / 2, right: at.x + labelWidth / 2, top: at.y - labelHeight / 2, bottom: at.y + labelHeight / 2 };
}

describe("sceneOf", () => {
  it("covers no label with another label or a card", () => {
    const scene = sceneOf(bookinfo);
    const labels = scene.curves.map((c) => labelBox(c.label));
    const cards = [...scene.centres.values()].map(cardBox);
    labels.forEach((label, i) => {
      expect(cards.filter((card) => overlaps(card, label))).toEqual([]);
      expect(labels.filter((other, j) => j !== i && overlaps(other, label))).toEqual([]);
    });
  });

  it("gives the same picture for the same structure", () => {
    expect(sceneOf(bookinfo)).toEqual(sceneOf(structuredClone(bookinfo)));
  });

  it("spreads the edges that leave one card", () => {
    const starts = sceneOf(bookinfo).curves.filter((c) => c.id.startsWith("productpage>")).map((c) => c.from.y);
    expect(new Set(starts).size).toBe(4);
  });

  it("moves nothing else when a node joins", () => {
    const before = sceneOf(bookinfo);
    const after = sceneOf({ ...bookinfo, placements: [...bookinfo.placements, { id: "new", x: 780, y: 400 }] });
    for (const [id, at] of before.centres) expect(after.centres.get(id)).toEqual(at);
  });

  it("leads edges around the cards that stand between", () => {
    const placements = ["a", "b", "c", "d"].map((id, i) => ({ id, x: i * 260, y: 0 }));
    const links = [["a", "d"], ["d", "b"]].map(([source, destination]) => ({ id: `${source}${destination}`, source: source!, destination: destination! }));
    const scene = sceneOf({ placements, links });
    for (const curve of scene.curves) {
      for (let t = 0.05; t < 1; t += 0.05) expect(["b", "c"].filter((id) => hitTest(scene, pointAt(curve, t)) === id)).toEqual([]);
    }
  });

  it("draws calls backwards, within a layer and to oneself", () => {
    const placements = [{ id: "a", x: 0, y: 0 }, { id: "b", x: 260, y: 0 }, { id: "c", x: 0, y: 110 }];
    const links = [["b", "a"], ["a", "c"], ["a", "a"]].map(([source, destination]) => ({ id: `${source}${destination}`, source: source!, destination: destination! }));
    for (const curve of sceneOf({ placements, links }).curves) {
      expect(curve.length).toBeGreaterThan(cardHeight / 2);
      expect(Number.isFinite(curve.label.x + curve.label.y)).toBe(true);
    }
  });

  it("has bounds that hold every card", () => {
    const { bounds, centres } = sceneOf(bookinfo);
    for (const at of centres.values()) {
      expect(bounds.left).toBeLessThanOrEqual(at.x - cardWidth / 2);
      expect(bounds.bottom).toBeGreaterThanOrEqual(at.y + cardHeight / 2);
    }
  });

  it("is empty for an empty graph", () => {
    expect(sceneOf({ placements: [], links: [] }).bounds).toEqual({ left: 0, top: 0, right: 0, bottom: 0 });
  });
});

describe("hitTest", () => {
  it("finds the card under a point and nothing beside it", () => {
    const scene = sceneOf(bookinfo);
    const at = scene.centres.get("ratings")!;
    expect(hitTest(scene, { x: at.x + 10, y: at.y - 10 })).toBe("ratings");
    expect(hitTest(scene, { x: at.x + cardWidth, y: at.y })).toBeNull();
  });
});
