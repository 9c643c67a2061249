import { screen, within } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";
import { hop, record, trace } from "../test/fixtures";
import { answering, renderPage } from "../test/render";
import { RequestPanel } from "./RequestPanel";

const close = () => undefined;

describe("RequestPanel", () => {
  afterEach(() => vi.unstubAllGlobals());

  it("shows hops with both sides, verdicts, gaps and every access-log line", async () => {
    const found = trace(
      [
        hop("default/a", "default/b", {
          client: record({ path: "/buy", code: 429, verdict: "throttled", rule: "shop/limit", accessLog: "line of a" }),
          server: record({ reporter: "destination", accessLog: "line of b" }),
        }),
        hop("default/b", "default/c", { depth: 1, failed: true, client: record({ code: 503, accessLog: "line two" }), gap: "c never answered" }),
      ],
      { gaps: ["c never answered", "a span is missing"] },
    );
    vi.stubGlobal("fetch", answering({ "/requests/r": found }));
    renderPage(<RequestPanel id="r" close={close} />);
    expect(await screen.findByRole("heading", { name: "GET /buy" })).toBeTruthy();
    expect(screen.getByText("throttled by shop/limit")).toBeTruthy();
    const rows = within(screen.getByRole("region", { name: "Waterfall" })).getAllByRole("listitem");
    expect(rows).toHaveLength(2);
    expect(rows[1]?.textContent).toContain("c never answered");
    expect(screen.getByRole("region", { name: "Gaps" }).textContent).toContain("a span is missing");
    expect(screen.getAllByText("c never answered")).toHaveLength(1);
    const log = screen.getByRole("region", { name: "Access log" });
    expect(within(log).getAllByText(/^line/).map((l) => l.textContent)).toEqual(["line of a", "line of b", "line two"]);
  });

  it("names the status of gRPC calls, at the top and hop by hop", async () => {
    const found = trace([
      hop("default/a", "default/b", { failed: true, client: record({ protocol: "grpc", path: "/shop.Cart/Add", grpcStatus: "14" }) }),
      hop("default/b", "default/c", { depth: 1, client: record({ protocol: "grpc", path: "/shop.Stock/Get", grpcStatus: "0" }) }),
    ]);
    vi.stubGlobal("fetch", answering({ "/requests/r": found }));
    renderPage(<RequestPanel id="r" close={close} />);
    expect(await screen.findByRole("heading", { name: "/shop.Cart/Add" })).toBeTruthy();
    expect(screen.getAllByText("UNAVAILABLE")).toHaveLength(2);
    const rows = within(screen.getByRole("region", { name: "Waterfall" })).getAllByRole("listitem");
    expect(within(rows[0]!).getByText("UNAVAILABLE")).toBeTruthy();
    expect(within(rows[1]!).getByText("OK")).toBeTruthy();
  });

  it("says of an unknown ID where was looked and what to do", async () => {
    const status = { store: { records: 1234, oldestMillis: Date.now() - 600_000 } };
    vi.stubGlobal("fetch", answering({ "/status": status }));
    renderPage(<RequestPanel id="abc" close={close} />);
    expect(await screen.findByRole("heading", { name: "No such request" })).toBeTruthy();
    expect(await screen.findByText("1,234")).toBeTruthy();
    expect(screen.getByText(/^No request with this ID\. Look at the hub's retention\.$/)).toBeTruthy();
    expect(screen.getByText("meshctl trace abc")).toBeTruthy();
  });
});
