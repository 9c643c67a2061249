/** Everything about the page that is worth sharing, and its spelling in the URL. */

export type Theme = "light" | "dark";
export type Layout = "graph" | "table";

export type Selection =
  | { readonly kind: "none" }
  | { readonly kind: "node"; readonly id: string }
  | { readonly kind: "edge"; readonly id: string }
  | { readonly kind: "request"; readonly id: string };

export interface View {
  readonly selection: Selection;
  readonly windowSeconds: number;
  readonly layout: Layout;
  /** Null follows the reader's own setting. */
  readonly theme: Theme | null;
}

export const windows: readonly number[] = [10, 60, 300, 900];
const defaultWindow = 60;

export const nothing: Selection = { kind: "none" };

/** Reads a URL's query. What it does not understand it takes for absent. */
export function parseView(query: string): View {
  const q = new URLSearchParams(query);
  const seconds = Number(q.get("window"));
  const theme = q.get("theme");
  return {
    selection: parseSelection(q),
    windowSeconds: windows.includes(seconds) ? seconds : defaultWindow,
    layout: q.get("view") === "table" ? "table" : "graph",
    theme: theme === "light" || theme === "dark" ? theme : null,
  };
}

/** The shortest query that parseView reads back; empty for the default view. */
export function formatView(view: View): string {
  const q = new URLSearchParams();
  if (view.selection.kind !== "none") q.set(view.selection.kind, view.selection.id);
  if (view.windowSeconds !== defaultWindow) q.set("window", String(view.windowSeconds));
  if (view.layout !== "graph") q.set("view", view.layout);
  if (view.theme !== null) q.set("theme", view.theme);
  const text = q.toString().replaceAll("%2F", "/").replaceAll("%3A", ":");
  return text === "" ? "" : `?${text}`;
}

function parseSelection(q: URLSearchParams): Selection {
  for (const kind of ["request", "node", "edge"] as const) {
    const id = q.get(kind);
    if (id) return { kind, id };
  }
  return nothing;
}
