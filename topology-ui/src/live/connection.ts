import { apiRoot } from "../api/client";
import type { Delta, Graph } from "../api/types_gen";
import type { GraphStore } from "../graph/store";
import { EventParser, type ServerEvent } from "./sse";

/**
 * What the page may claim about its freshness. "stale": the connection stands
 * and says nothing; "reconnecting": there is none.
 */
export type Phase = "connecting" | "live" | "stale" | "reconnecting";

export interface LiveState {
  readonly phase: Phase;
  /** When the newest event came in, Unix milliseconds of this browser; 0 before the first. */
  readonly receivedMillis: number;
  /** Attempts since the connection was last good. */
  readonly attempt: number;
  /** When the next attempt starts, 0 while none is planned. */
  readonly retryMillis: number;
  readonly error: string;
}

export interface ConnectionOptions {
  readonly fetch?: typeof fetch;
  readonly now?: () => number;
  /** From 0 to 1; spreads the retries of many browsers. */
  readonly random?: () => number;
}

const silenceMillis = 3_000;
// A stream that has been silent this long is taken for dead although TCP has
// not said so, as after a laptop's sleep.
const deadMillis = 10_000;
const firstRetryMillis = 500;
const longestRetryMillis = 15_000;

const initial: LiveState = { phase: "connecting", receivedMillis: 0, attempt: 0, retryMillis: 0, error: "" };

/**
 * Keeps one stream of the graph open and feeds the store. It uses fetch and
 * not EventSource, because only so a new connection may name the last event it
 * has and the wait between attempts can grow.
 */
export class GraphConnection {
  private current = initial;
  private readonly listeners = new Set<() => void>();
  private abort: AbortController | null = null;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private watch: ReturnType<typeof setInterval> | undefined;
  private windowSeconds = 60;
  private lastEventID = "";
  private readonly fetch: typeof fetch;
  private readonly now: () => number;
  private readonly random: () => number;

  constructor(
    private readonly store: GraphStore,
    options: ConnectionOptions = {},
  ) {
    this.fetch = options.fetch ?? ((...args) => fetch(...args));
    this.now = options.now ?? Date.now;
    this.random = options.random ?? Math.random;
  }

  state = (): LiveState => this.current;

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** Opens the stream, or re-opens it for another window. */
  open(windowSeconds: number): void {
    this.close();
    this.windowSeconds = windowSeconds;
    this.lastEventID = "";
    this.watch = setInterval(() => this.checkSilence(), 500);
    this.connect();
  }

  close(): void {
    this.abort?.abort();
    this.abort = null;
    clearTimeout(this.retry);
    clearInterval(this.watch);
  }

  /** Tries at once instead of when the wait is over. */
  retryNow(): void {
    if (this.current.phase === "reconnecting") {
      clearTimeout(this.retry);
      this.connect();
    }
  }

  private connect(): void {
    const abort = new AbortController();
    this.abort = abort;
    this.read(abort.signal).then(
      () => this.lost(abort, "The hub closed the stream."),
      (cause: unknown) => this.lost(abort, cause instanceof Error ? cause.message : String(cause)),
    );
  }

  private async read(signal: AbortSignal): Promise<void> {
    const headers: Record<string, string> = { Accept: "text/event-stream" };
    if (this.lastEventID !== "") headers["Last-Event-ID"] = this.lastEventID;
    const url = `${apiRoot}/graph/stream?window=${this.windowSeconds}`;
    const response = await this.fetch(url, { headers, signal, cache: "no-store" });
    if (!response.ok || response.body === null) {
      throw new Error(`The hub answered ${response.status}.`);
    }
    const parser = new EventParser();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      for (const event of parser.push(value)) {
        this.receive(event);
      }
    }
  }

  private receive(event: ServerEvent): void {
    if (event.event === "graph") {
      this.store.setGraph(JSON.parse(event.data) as Graph);
    } else if (event.event === "delta") {
      if (!this.store.applyDelta(JSON.parse(event.data) as Delta)) {
        this.lastEventID = "";
        throw new Error("The hub started anew.");
      }
    } else {
      return;
    }
    this.lastEventID = event.id;
    this.set({ phase: "live", receivedMillis: this.now(), attempt: 0, retryMillis: 0, error: "" });
  }

  private lost(abort: AbortController, error: string): void {
    if (abort !== this.abort) return;
    abort.abort();
    const attempt = this.current.attempt + 1;
    const ceiling = Math.min(longestRetryMillis, firstRetryMillis * 2 ** (attempt - 1));
    const wait = ceiling * (0.75 + this.random() * 0.25);
    this.set({ phase: "reconnecting", attempt, retryMillis: this.now() + wait, error });
    this.retry = setTimeout(() => this.connect(), wait);
  }

  private checkSilence(): void {
    const { phase, receivedMillis } = this.current;
    const silent = this.now() - receivedMillis;
    if (phase === "live" && silent > silenceMillis) {
      this.set({ phase: "stale" });
    } else if (phase === "stale" && silent > deadMillis && this.abort) {
      this.lost(this.abort, "The hub has gone silent.");
    }
  }

  private set(change: Partial<LiveState>): void {
    this.current = { ...this.current, ...change };
    this.listeners.forEach((wake) => wake());
  }
}
