import { cleanup } from "@testing-library/react";
import { afterEach } from "vitest";

// jsdom has neither; Mantine asks for both at mount.
class NoResizeObserver implements ResizeObserver {
  observe(): void { /* nothing is laid out in jsdom */ }
  unobserve(): void { /* see observe */ }
  disconnect(): void { /* see observe */ }
}

window.ResizeObserver = NoResizeObserver;
window.matchMedia = (query: string) =>
  ({
    matches: false,
    media: query,
    onchange: null,
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
    dispatchEvent: () => false,
  }) as unknown as MediaQueryList;

afterEach(cleanup);
