/** The edge under the pointer, shared by the canvas and the waterfall. */
export class Hover {
  private current = "";
  private readonly listeners = new Set<() => void>();

  edge = (): string => this.current;

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** Empty for none. */
  set = (edge: string): void => {
    if (edge === this.current) return;
    this.current = edge;
    this.listeners.forEach((wake) => wake());
  };
}
