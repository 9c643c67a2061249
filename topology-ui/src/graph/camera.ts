import type { Box, Point } from "./geometry";

/** Screen = scene × zoom + offset, in CSS pixels. */
export interface Camera {
  readonly x: number;
  readonly y: number;
  readonly zoom: number;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

export const minZoom = 0.15;
export const maxZoom = 2.5;

/** Shows the whole box, centred, never larger than life. */
export function fit(bounds: Box, view: Size, margin = 30, largest = 1.15): Camera {
  const width = Math.max(1, bounds.right - bounds.left);
  const height = Math.max(1, bounds.bottom - bounds.top);
  const room = Math.min((view.width - 2 * margin) / width, (view.height - 2 * margin) / height);
  const zoom = Math.max(minZoom, Math.min(largest, room));
  return {
    zoom,
    x: view.width / 2 - ((bounds.left + bounds.right) / 2) * zoom,
    y: view.height / 2 - ((bounds.top + bounds.bottom) / 2) * zoom,
  };
}

/** Zooms by factor and keeps the scene point under the screen point where it is. */
export function zoomAt(camera: Camera, factor: number, screen: Point): Camera {
  const zoom = Math.max(minZoom, Math.min(maxZoom, camera.zoom * factor));
  const scale = zoom / camera.zoom;
  return { zoom, x: screen.x - (screen.x - camera.x) * scale, y: screen.y - (screen.y - camera.y) * scale };
}

export function pan(camera: Camera, dx: number, dy: number): Camera {
  return { ...camera, x: camera.x + dx, y: camera.y + dy };
}

/** The least movement that brings the box into view with a margin. */
export function reveal(camera: Camera, box: Box, view: Size, margin = 40): Camera {
  const left = box.left * camera.zoom + camera.x;
  const right = box.right * camera.zoom + camera.x;
  const top = box.top * camera.zoom + camera.y;
  const bottom = box.bottom * camera.zoom + camera.y;
  const shift = (low: number, high: number, room: number) =>
    low < margin ? margin - low : high > room - margin ? room - margin - high : 0;
  return pan(camera, shift(left, right, view.width), shift(top, bottom, view.height));
}
