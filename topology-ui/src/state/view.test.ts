import { describe, expect, it } from "vitest";
import { ViewHistory } from "./history";
import { formatView, nothing, parseView, type View } from "./view";

const plain: View = { selection: nothing, windowSeconds: 60, layout: "graph", theme: null };

describe("view in the URL", () => {
  it.each<[View, string]>([
    [plain, ""],
    [{ ...plain, selection: { kind: "node", id: "default/reviews-v2" } }, "?node=default/reviews-v2"],
    [{ ...plain, selection: { kind: "edge", id: "a&b=c>d" }, windowSeconds: 900 }, "?edge=a%26b%3Dc%3Ed&window=900"],
    [{ ...plain, selection: { kind: "request", id: "r" }, layout: "table", theme: "dark" }, "?request=r&view=table&theme=dark"],
  ])("%o is %s and back", (view, query) => {
    expect(formatView(view)).toBe(query);
    expect(parseView(query)).toEqual(view);
  });

  it("takes what it does not know for absent", () => {
    expect(parseView("?window=61&view=globe&theme=pink&node=&x=1")).toEqual(plain);
  });
});

describe("ViewHistory", () => {
  it("makes a step of each selection and follows back", async () => {
    window.history.replaceState(null, "", "/");
    const history = new ViewHistory(window);
    history.change({ selection: { kind: "node", id: "a" } });
    history.change({ selection: { kind: "edge", id: "b" } });
    expect(window.location.search).toBe("?edge=b");
    const back = new Promise((resolve) => window.addEventListener("popstate", resolve, { once: true }));
    window.history.back();
    await back;
    expect(history.view().selection).toEqual({ kind: "node", id: "a" });
    history.close();
  });

  it("makes no step of the theme, and none of nothing", () => {
    window.history.replaceState(null, "", "/");
    const history = new ViewHistory(window);
    const before = window.history.length;
    history.change({ theme: "dark" });
    history.change({ windowSeconds: 60 });
    expect(window.history.length).toBe(before);
    history.close();
  });
});
