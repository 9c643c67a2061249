import { describe, expect, it } from "vitest";
import { fit, maxZoom, minZoom, pan, reveal, zoomAt } from "./camera";

const box = { left: -100, top: 0, right: 900, bottom: 500 };

describe("camera", () => {
  it("fits and centres a box", () => {
    const c = fit(box, { width: 560, height: 800 }, 30);
    expect(c.zoom).toBeCloseTo(0.5);
    expect(400 * c.zoom + c.x).toBeCloseTo(280);
    expect(250 * c.zoom + c.y).toBeCloseTo(400);
  });

  it("does not blow a small graph up", () => {
    expect(fit({ left: 0, top: 0, right: 10, bottom: 10 }, { width: 1000, height: 1000 }).zoom).toBe(1.15);
  });

  it("keeps the point under the pointer where it is", () => {
    const before = { x: 40, y: -20, zoom: 0.8 };
    const after = zoomAt(before, 1.5, { x: 300, y: 200 });
    expect((300 - after.x) / after.zoom).toBeCloseTo((300 - before.x) / before.zoom);
    expect((200 - after.y) / after.zoom).toBeCloseTo((200 - before.y) / before.zoom);
  });

  it("stays within its limits", () => {
    expect(zoomAt({ x: 0, y: 0, zoom: 1 }, 1e6, { x: 0, y: 0 }).zoom).toBe(maxZoom);
    expect(zoomAt({ x: 0, y: 0, zoom: 1 }, 1e-6, { x: 0, y: 0 }).zoom).toBe(minZoom);
  });

  it("reveals with the least movement", () => {
    const c = { x: 0, y: 0, zoom: 1 };
    const view = { width: 500, height: 500 };
    expect(reveal(c, { left: 100, top: 100, right: 200, bottom: 200 }, view, 40)).toEqual(c);
    expect(reveal(c, { left: 480, top: 100, right: 580, bottom: 200 }, view, 40)).toEqual(pan(c, -120, 0));
  });
});
