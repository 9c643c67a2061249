import { useCallback, useEffect, useLayoutEffect, useRef, useState, type RefObject } from "react";
import { fit, pan, reveal, zoomAt, type Camera, type Size } from "../graph/camera";
import type { Box, Point } from "../graph/geometry";

export interface CameraControl {
  readonly frame: RefObject<HTMLDivElement | null>;
  readonly camera: Camera;
  /** True during a movement that should glide rather than jump. */
  readonly gliding: boolean;
  readonly zoomBy: (factor: number) => void;
  readonly panBy: (dx: number, dy: number) => void;
  readonly fitAll: () => void;
  readonly show: (box: Box) => void;
}

const glideMillis = 260;

/**
 * The reader's view of the scene. Until the reader moves it, it keeps the whole
 * scene in sight as the window or the set of nodes changes; afterwards it stays
 * where it was put.
 */
export function useCamera(bounds: Box): CameraControl {
  const frame = useRef<HTMLDivElement>(null);
  const size = useRef<Size>({ width: 0, height: 0 });
  const moved = useRef(false);
  const boundsRef = useRef(bounds);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const [camera, setCamera] = useState<Camera>({ x: 0, y: 0, zoom: 1 });
  const [gliding, setGliding] = useState(false);

  const glide = useCallback((change: (c: Camera) => Camera) => {
    setGliding(true);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setGliding(false), glideMillis);
    setCamera(change);
  }, []);

  const refit = useCallback(() => {
    if (!moved.current && size.current.width > 0) setCamera(fit(boundsRef.current, size.current));
  }, []);

  useLayoutEffect(() => {
    boundsRef.current = bounds;
    refit();
  }, [bounds, refit]);

  useLayoutEffect(() => {
    const element = frame.current;
    if (!element) return;
    const measure = () => {
      size.current = { width: element.clientWidth, height: element.clientHeight };
      refit();
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, [refit]);

  usePointer(frame, moved, setCamera);
  useEffect(() => () => clearTimeout(timer.current), []);

  const middle = (): Point => ({ x: size.current.width / 2, y: size.current.height / 2 });
  return {
    frame,
    camera,
    gliding,
    zoomBy: (factor) => {
      moved.current = true;
      glide((c) => zoomAt(c, factor, middle()));
    },
    panBy: (dx, dy) => {
      moved.current = true;
      glide((c) => pan(c, dx, dy));
    },
    fitAll: () => {
      moved.current = false;
      glide(() => fit(boundsRef.current, size.current));
    },
    show: (box) => glide((c) => reveal(c, box, size.current)),
  };
}

/** Wheel zooms at the pointer, two fingers pan, dragging the background pans. */
function usePointer(
  frame: RefObject<HTMLDivElement | null>,
  moved: RefObject<boolean>,
  setCamera: (change: (c: Camera) => Camera) => void,
): void {
  useEffect(() => {
    const element = frame.current;
    if (!element) return;
    const wheel = (e: WheelEvent) => {
      e.preventDefault();
      moved.current = true;
      const at = element.getBoundingClientRect();
      const factor = Math.exp(-e.deltaY * (e.ctrlKey ? 0.01 : 0.0015));
      setCamera((c) => zoomAt(c, factor, { x: e.clientX - at.left, y: e.clientY - at.top }));
    };
    const down = (e: PointerEvent) => {
      if (e.button !== 0 || (e.target as Element).closest("button, a, [data-edge]")) return;
      element.setPointerCapture(e.pointerId);
      element.dataset.dragging = "true";
    };
    const move = (e: PointerEvent) => {
      if (element.dataset.dragging === undefined) return;
      moved.current = true;
      setCamera((c) => pan(c, e.movementX, e.movementY));
    };
    const up = () => delete element.dataset.dragging;
    // Passive listeners could not keep the page from scrolling.
    element.addEventListener("wheel", wheel, { passive: false });
    element.addEventListener("pointerdown", down);
    element.addEventListener("pointermove", move);
    element.addEventListener("pointerup", up);
    element.addEventListener("pointercancel", up);
    return () => {
      element.removeEventListener("wheel", wheel);
      element.removeEventListener("pointerdown", down);
      element.removeEventListener("pointermove", move);
      element.removeEventListener("pointerup", up);
      element.removeEventListener("pointercancel", up);
    };
  }, [frame, moved, setCamera]);
}
