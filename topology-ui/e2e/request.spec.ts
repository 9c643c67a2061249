import { expect, test, type Page } from "@playwright/test";
import type { RequestList, Trace } from "../src/api/types_gen";
import { canvas, details, node, openGraph, workloads } from "./mesh";

/** The request given from outside, else the newest that went the whole way. */
async function requestID(page: Page): Promise<string> {
  if (process.env.TELEMESH_REQUEST_ID) return process.env.TELEMESH_REQUEST_ID;
  const answer = await page.request.get("/api/mesh/v1/requests?service=ratings&limit=1");
  const { requests } = (await answer.json()) as RequestList;
  expect(requests.length).toBe(1);
  return requests[0]!.requestId;
}

async function traceOf(page: Page, id: string): Promise<Trace> {
  const answer = await page.request.get(`/api/mesh/v1/requests/${id}`);
  expect(answer.ok()).toBe(true);
  return (await answer.json()) as Trace;
}

test("searching a request ID lights its path and shows waterfall and access log", async ({ page }) => {
  await openGraph(page);
  const id = await requestID(page);
  const trace = await traceOf(page, id);
  await page.keyboard.press("/");
  await page.getByRole("combobox", { name: "Find a request by its ID" }).fill(`  ${id} `);
  await page.keyboard.press("Enter");

  const panel = details(page);
  const rows = panel.getByRole("region", { name: "Waterfall" }).getByRole("listitem");
  await expect(rows).toHaveCount(trace.hops.length);
  await expect(page).toHaveURL(new RegExp(`request=${id}`));

  const onPath = new Set(trace.hops.flatMap((h) => [h.source, h.destination]));
  for (const workload of workloads) {
    await expect(node(page, workload)).toHaveAttribute("data-lit", String(onPath.has(`default/${workload}`)));
  }
  for (let hop = 1; hop <= trace.hops.length; hop++) {
    await expect(canvas(page).getByRole("button", { name: new RegExp(`^hop (\\d+, )*${hop}(, \\d+)*, .* to `) })).toBeVisible();
  }
  const lines = panel.getByRole("region", { name: "Access log" }).getByRole("listitem");
  const sides = trace.hops.reduce((n, h) => n + (h.client ? 1 : 0) + (h.server ? 1 : 0), 0);
  await expect(lines).toHaveCount(sides);
  await expect(lines.first()).toContainText(trace.requestId);
});

test("a traceparent finds the same request", async ({ page }) => {
  await openGraph(page);
  const trace = await traceOf(page, await requestID(page));
  await page.getByRole("combobox", { name: "Find a request by its ID" }).fill(`00-${trace.traceId}-00f067aa0ba902b7-01`);
  await page.keyboard.press("Enter");
  await expect(details(page).getByText(trace.requestId).first()).toBeVisible();
});

test("resting on a hop marks its edge in the graph", async ({ page }) => {
  await openGraph(page, `?request=${await requestID(page)}`);
  const first = details(page).getByRole("region", { name: "Waterfall" }).getByRole("listitem").first();
  await first.hover();
  await expect(canvas(page).getByRole("button", { name: /^hop 1/ })).toHaveAttribute("data-hovered", "true");
  await first.getByRole("button").click();
  await expect(first.getByText("Operation")).toBeVisible();
});

test("an unknown ID says where was looked and what to try", async ({ page }) => {
  await openGraph(page, "?request=00000000-0000-4000-8000-000000000000");
  const panel = details(page);
  await expect(panel.getByRole("heading", { name: "No such request" })).toBeVisible();
  await expect(panel.getByText("Records searched")).toBeVisible();
  await expect(panel.getByText("Newest sample")).toBeVisible();
  await expect(panel.getByText("What to try")).toBeVisible();
});
