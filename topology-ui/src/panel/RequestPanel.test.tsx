import { screen, within } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Details } from "../api/types_gen";
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

  it("shows headers, attempts and decisions of each side, or why there are none", async () => {
    const details: Details = {
      trigger: "error", durationMs: 12, firstByteMs: 11, policyMs: 0.002,
      request: { line: "GET /buy HTTP/1.1", fields: [{ name: "Authorization", value: "[redacted, 9 bytes]", redacted: true }] },
      response: { line: "HTTP/1.1 503 Service Unavailable", fields: [{ name: "server", value: "b" }], truncated: true },
      attempts: [
        { upstream: "10.0.0.1:80", offsetMs: 0, connectMs: 1, firstByteMs: 0, durationMs: 1, code: 0, grpcStatus: "", result: "connect_failure", detail: "x" },
        { upstream: "10.0.0.2:80", offsetMs: 1, connectMs: 0, firstByteMs: 10, durationMs: 11, code: 503, grpcStatus: "", result: "ok", detail: "" },
      ],
      decisions: [{ policy: "shop/limit", rule: "all", verdict: "throttled", durationMs: 0.002 }],
    };
    const found = trace([
      hop("default/a", "default/b", {
        client: record({ details }), server: record({ reporter: "destination", detailsMissing: "too old: sidecar b-1 keeps about 42 seconds" }),
      }),
    ]);
    vi.stubGlobal("fetch", answering({ "/requests/r": found }));
    renderPage(<RequestPanel id="r" close={close} />);
    const section = within(await screen.findByRole("region", { name: "Details" }));
    expect(section.getByText("[redacted, 9 bytes]").getAttribute("data-redacted")).toBe("true");
    expect(section.getByText("HTTP/1.1 503 Service Unavailable")).toBeTruthy();
    expect(section.getByText("The rest was too long to be kept.")).toBeTruthy();
    expect(section.getAllByRole("row").map((r) => r.textContent)).toEqual([
      "Attemptatconnectfirst bytetotalresult", "10.0.0.1:8001.0 ms–1.0 msconnect failure", "10.0.0.2:801.0 msreused10 ms11 ms503",
    ]);
    expect(section.getByText("shop/limit/all")).toBeTruthy();
    expect(section.getByText("sent because it failed")).toBeTruthy();
    expect(section.getByText("too old: sidecar b-1 keeps about 42 seconds")).toBeTruthy();
    expect(section.getByText("one side")).toBeTruthy();
  });

  it("asks again while details are on their way", async () => {
    const pending = trace([hop("default/a", "default/b", { client: record({ detailsPending: true, detailsMissing: "sidecar a-1 has been asked for it" }) })]);
    const fetching = vi.fn(answering({ "/requests/r": pending }));
    vi.stubGlobal("fetch", fetching);
    renderPage(<RequestPanel id="r" close={close} />);
    expect(await screen.findByText("on its way")).toBeTruthy();
    await vi.waitFor(() => expect(fetching.mock.calls.length).toBeGreaterThan(1), { timeout: 5_000 });
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
