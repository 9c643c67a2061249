import { act, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { Profiler } from "react";
import { describe, expect, it, vi } from "vitest";
import { delta, edge, graph, hop, node, signals, trace } from "../test/fixtures";
import { answering, renderPage } from "../test/render";
import { GraphCanvas } from "./GraphCanvas";

const nodes = [node("default/a"), node("default/b", { x: 260, version: "v1" }), node("default/c", { x: 520 })];
const edges = [edge("ab", "default/a", "default/b"), edge("bc", "default/b", "default/c", { signals: signals({ rate: 7, denied: 2, throttled: 1 }) })];

function drawn(address = "/") {
  const page = renderPage(<GraphCanvas />, address);
  act(() => page.services.store.setGraph(graph(nodes, edges)));
  return page;
}

describe("GraphCanvas", () => {
  it("names each node and each edge with its state", () => {
    drawn();
    expect(screen.getByRole("button", { name: /^a, namespace default, healthy, receives 1\.0 requests per second/ })).toBeTruthy();
    expect(screen.getByRole("button", { name: /^b to c, healthy, 7\.0 requests per second.*2 denied, 1 throttled/ })).toBeTruthy();
  });

  it("selects what is clicked, in the URL", async () => {
    drawn();
    await userEvent.click(screen.getByRole("button", { name: /^b, namespace/ }));
    expect(window.location.search).toBe("?node=default/b");
    await userEvent.click(screen.getByRole("button", { name: /^a to b/ }));
    expect(window.location.search).toBe("?edge=ab");
  });

  it("shows new numbers without moving a card", () => {
    const { services } = drawn();
    const card = screen.getByRole("button", { name: /^b, namespace/ });
    const place = card.getAttribute("style");
    act(() => void services.store.applyDelta(delta(2, { nodes: [node("default/b", { x: 260, version: "v1", inbound: signals({ rate: 42 }) })] })));
    expect(card.textContent).toContain("42.0");
    expect(card.getAttribute("style")).toBe(place);
  });

  it("does not render for a delta that says nothing about what is drawn", () => {
    const onRender = vi.fn();
    const { services } = renderPage(<Profiler id="graph" onRender={onRender}><GraphCanvas /></Profiler>);
    act(() => services.store.setGraph(graph(nodes, edges)));
    onRender.mockClear();
    act(() => void services.store.applyDelta(delta(2)));
    expect(onRender).not.toHaveBeenCalled();
  });

  it("lights a request's path, numbers its hops and dims the rest", async () => {
    vi.stubGlobal("fetch", answering({ "/requests/r1": trace([hop("default/a", "default/b", { edge: "ab", durationMs: 12 })]) }));
    drawn("/?request=r1");
    expect(await screen.findByRole("button", { name: /^hop 1, a to b/ })).toBeTruthy();
    const lit = (name: RegExp) => screen.getByRole("button", { name }).getAttribute("data-lit");
    expect([lit(/^a, /), lit(/^b, /), lit(/^c, /)]).toEqual(["true", "true", "false"]);
    vi.unstubAllGlobals();
  });
});
