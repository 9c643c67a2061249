import { useCallback, useSyncExternalStore } from "react";
import { useServices, useView } from "./context";
import type { Theme } from "./view";

const storageKey = "telemesh-theme";
const darkQuery = "(prefers-color-scheme: dark)";

/**
 * The theme in force: what the URL says, else what was chosen here before, else
 * what the reader's system prefers.
 */
export function useTheme(): { scheme: Theme; toggle: () => void } {
  const { history } = useServices();
  const chosen = useView().theme;
  const system = useSyncExternalStore(subscribeSystem, systemTheme);
  const scheme = chosen ?? storedTheme() ?? system;
  const toggle = useCallback(() => {
    const next: Theme = scheme === "dark" ? "light" : "dark";
    remember(next);
    history.change({ theme: next });
  }, [scheme, history]);
  return { scheme, toggle };
}

function subscribeSystem(wake: () => void): () => void {
  const query = window.matchMedia(darkQuery);
  query.addEventListener("change", wake);
  return () => query.removeEventListener("change", wake);
}

function systemTheme(): Theme {
  return window.matchMedia(darkQuery).matches ? "dark" : "light";
}

// Storage may be switched off, which costs the memory of the choice and no more.
function storedTheme(): Theme | null {
  try {
    const value = window.localStorage.getItem(storageKey);
    return value === "dark" || value === "light" ? value : null;
  } catch {
    return null;
  }
}

function remember(theme: Theme): void {
  try {
    window.localStorage.setItem(storageKey, theme);
  } catch {
    return;
  }
}
