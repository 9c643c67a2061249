import { useSyncExternalStore } from "react";

const query = "(prefers-reduced-motion: reduce)";

function subscribe(wake: () => void): () => void {
  const media = window.matchMedia(query);
  media.addEventListener("change", wake);
  return () => media.removeEventListener("change", wake);
}

/** True when the reader's system asks for a page that does not move. */
export function useReducedMotion(): boolean {
  return useSyncExternalStore(subscribe, () => window.matchMedia(query).matches);
}
