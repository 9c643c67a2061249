import { formatView, parseView, type View } from "./view";

/** The page's view, kept in the URL. Back and forward walk through what was looked at. */
export class ViewHistory {
  private current: View;
  private readonly listeners = new Set<() => void>();

  constructor(private readonly target: Window) {
    this.current = parseView(target.location.search);
    target.addEventListener("popstate", this.reread);
  }

  view = (): View => this.current;

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** Changes the view; a change of what is looked at becomes a step of history. */
  change = (part: Partial<View>): void => {
    const next = { ...this.current, ...part };
    const query = formatView(next);
    if (query === formatView(this.current)) return;
    const url = `${this.target.location.pathname}${query}`;
    if (part.theme === undefined) this.target.history.pushState(null, "", url);
    else this.target.history.replaceState(null, "", url);
    this.set(next);
  };

  close(): void {
    this.target.removeEventListener("popstate", this.reread);
  }

  private reread = (): void => this.set(parseView(this.target.location.search));

  private set(view: View): void {
    this.current = view;
    this.listeners.forEach((wake) => wake());
  }
}
