import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { GraphStore } from "../graph/store";
import { delta, graph, node } from "../test/fixtures";
import { GraphConnection } from "./connection";

/** A hub whose streams the test feeds and breaks. */
class FakeHub {
  readonly calls: { url: string; lastEventID: string | null }[] = [];
  private stream: ReadableStreamDefaultController<Uint8Array> | null = null;
  down = false;

  fetch = ((url: string, init: RequestInit) => {
    this.calls.push({ url, lastEventID: new Headers(init.headers).get("Last-Event-ID") });
    if (this.down) return Promise.reject(new TypeError("connection refused"));
    const body = new ReadableStream<Uint8Array>({ start: (c) => void (this.stream = c) });
    return Promise.resolve(new Response(body));
  }) as typeof fetch;

  send(event: string, body: { sequence: number }): void {
    this.stream?.enqueue(new TextEncoder().encode(`id: ${body.sequence}\nevent: ${event}\ndata: ${JSON.stringify(body)}\n\n`));
  }

  break(): void {
    this.stream?.close();
  }
}

describe("GraphConnection", () => {
  let hub: FakeHub;
  let store: GraphStore;
  let connection: GraphConnection;
  const settle = () => vi.advanceTimersByTimeAsync(1);

  beforeEach(() => {
    vi.useFakeTimers();
    hub = new FakeHub();
    store = new GraphStore();
    connection = new GraphConnection(store, { fetch: hub.fetch, random: () => 1 });
  });

  afterEach(() => {
    connection.close();
    vi.useRealTimers();
  });

  async function live(): Promise<void> {
    connection.open(60);
    await settle();
    hub.send("graph", graph([node("a")], []));
    await settle();
  }

  it("feeds the store and says live only once something came", async () => {
    connection.open(300);
    await settle();
    expect(connection.state().phase).toBe("connecting");
    expect(hub.calls[0]?.url).toContain("window=300");
    hub.send("graph", graph([node("a")], []));
    hub.send("delta", delta(2, { nodes: [node("b")] }));
    await settle();
    expect(connection.state().phase).toBe("live");
    expect(store.allNodes().map((n) => n.id)).toEqual(["a", "b"]);
  });

  it("says stale after three seconds of silence and live again with the next event", async () => {
    await live();
    await vi.advanceTimersByTimeAsync(2_900);
    expect(connection.state().phase).toBe("live");
    await vi.advanceTimersByTimeAsync(1_000);
    expect(connection.state().phase).toBe("stale");
    hub.send("delta", delta(2));
    await settle();
    expect(connection.state().phase).toBe("live");
  });

  it("takes a stream that stays silent for dead", async () => {
    await live();
    await vi.advanceTimersByTimeAsync(11_000);
    expect(hub.calls.length).toBeGreaterThan(1);
  });

  it("resumes after the last event that it has", async () => {
    await live();
    hub.send("delta", delta(41));
    await settle();
    hub.break();
    await settle();
    expect(connection.state()).toMatchObject({ phase: "reconnecting", attempt: 1 });
    await vi.advanceTimersByTimeAsync(600);
    expect(hub.calls.at(-1)?.lastEventID).toBe("41");
  });

  it("waits longer from attempt to attempt, up to a limit", async () => {
    await live();
    hub.down = true;
    hub.break();
    await settle();
    const waits: number[] = [];
    for (let i = 0; i < 8; i++) {
      const wait = connection.state().retryMillis - Date.now();
      waits.push(Math.round(wait / 100) * 100);
      await vi.advanceTimersByTimeAsync(wait + 1);
    }
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
    expect(connection.state().error).toContain("refused");
  });

  it("asks for a whole graph when the hub has started anew", async () => {
    await live();
    hub.send("delta", delta(9));
    hub.send("delta", delta(1));
    await settle();
    expect(connection.state().phase).toBe("reconnecting");
    await vi.advanceTimersByTimeAsync(600);
    expect(hub.calls.at(-1)?.lastEventID).toBeNull();
  });

  it("tries at once when told to", async () => {
    await live();
    hub.break();
    await settle();
    connection.retryNow();
    await settle();
    hub.send("graph", graph([node("a")], []));
    await settle();
    expect(connection.state()).toMatchObject({ phase: "live", attempt: 0 });
  });

  it("opens nothing after close", async () => {
    await live();
    connection.close();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(hub.calls).toHaveLength(1);
  });
});
