import { expect, test } from "@playwright/test";
import { calls, canvas, details, edge, node, openGraph, workloads } from "./mesh";

test("shows every workload of Bookinfo and every call between them", async ({ page }) => {
  await openGraph(page);
  await expect(canvas(page).getByRole("button", { name: /, namespace / })).toHaveCount(workloads.length);
  for (const [source, destination] of calls) {
    await expect(edge(page, source, destination)).toBeVisible();
  }
  await expect(canvas(page).getByRole("button", { name: / to .*requests per second/ })).toHaveCount(calls.length);
});

test("rates change while nodes stay where they are", async ({ page }) => {
  await openGraph(page, "?window=10");
  const before = await Promise.all(workloads.map((w) => node(page, w).boundingBox()));
  const rate = edge(page, "loadgen-v1", "productpage-v1");
  const seen = new Set<string>();
  await expect
    .poll(async () => seen.add(await rate.innerText()).size, { timeout: 20_000 })
    .toBeGreaterThan(2);
  const after = await Promise.all(workloads.map((w) => node(page, w).boundingBox()));
  expect(after).toEqual(before);
});

test("the side panel shows a node's golden signals and leads to its neighbours", async ({ page }) => {
  await openGraph(page);
  await node(page, "reviews-v2").click();
  const panel = details(page);
  await expect(panel.getByRole("heading", { level: 2, name: /reviews/ })).toBeVisible();
  for (const signal of ["Rate", "Errors", "p50", "p95", "p99", "In flight"]) {
    await expect(panel.getByRole("term").filter({ hasText: signal }).first()).toBeVisible();
  }
  await expect(panel.getByText("Traffic, per second")).toBeVisible();
  await expect(panel.locator("canvas")).toHaveCount(2);
  await expect(panel.getByRole("region", { name: "Responses" })).toContainText("200");
  await expect(panel.getByRole("region", { name: "Sidecars" })).toContainText("connected");
  await panel.getByRole("region", { name: "Calls" }).getByRole("button", { name: /ratings-v1$/ }).first().click();
  await expect(panel.getByRole("heading", { level: 2, name: /ratings/ })).toBeVisible();
  await page.goBack();
  await expect(panel.getByRole("heading", { level: 2, name: /reviews/ })).toBeVisible();
});

test("the side panel shows what both ends of an edge counted", async ({ page }) => {
  await openGraph(page);
  await edge(page, "reviews-v3", "ratings-v1").click();
  const panel = details(page);
  await expect(panel.getByRole("heading", { level: 2 })).toContainText("reviews-v3");
  await expect(panel.getByRole("region", { name: "Both reporters" })).toContainText("ratings-v1");
  await panel.getByRole("button", { name: "Close the panel" }).click();
  await expect(panel).toBeHidden();
});

test("a request in the list opens its path", async ({ page }) => {
  await openGraph(page, "?node=default/ratings-v1");
  await details(page).getByRole("region", { name: "Latest requests" }).getByRole("button", { name: /\/ratings/ }).first().click();
  await expect(page).toHaveURL(/request=/);
  await expect(details(page).getByRole("region", { name: "Waterfall" })).toBeVisible();
});

test("the URL restores the view", async ({ page, context }) => {
  await openGraph(page);
  await page.getByText("5m", { exact: true }).click();
  await node(page, "details-v1").click();
  await expect(page).toHaveURL(/node=default\/details-v1/);
  const other = await context.newPage();
  await other.goto(page.url());
  await expect(details(other).getByRole("heading", { level: 2, name: /details/ })).toBeVisible();
  await expect(other.getByRole("radio", { name: "5m", exact: true })).toBeChecked();
});

test("the table holds the same edges and sorts them", async ({ page }) => {
  await openGraph(page);
  await page.getByText("Table", { exact: true }).click();
  const rows = page.getByRole("region", { name: "Edges" }).getByRole("row");
  await expect(rows).toHaveCount(calls.length + 1);
  await page.getByRole("button", { name: "Source" }).click();
  await expect(page.getByRole("columnheader", { name: "Source" })).toHaveAttribute("aria-sort", "ascending");
  await expect(rows.nth(1)).toContainText("loadgen");
});

test("the keyboard walks along the traffic", async ({ page }) => {
  await openGraph(page);
  await node(page, "loadgen-v1").focus();
  await page.keyboard.press("ArrowRight");
  await expect(node(page, "productpage-v1")).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(details(page).getByRole("heading", { level: 2, name: /productpage/ })).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(details(page)).toBeHidden();
});

test("the dark theme is kept", async ({ page }) => {
  await openGraph(page);
  await page.getByRole("button", { name: "Use the dark theme" }).click();
  const root = page.locator("html");
  await expect(root).toHaveAttribute("data-mantine-color-scheme", "dark");
  await page.goto("/");
  await expect(root).toHaveAttribute("data-mantine-color-scheme", "dark");
  await expect(page.getByRole("button", { name: "Use the light theme" })).toBeVisible();
});

test("the clock stops saying live when the hub is gone", async ({ page }) => {
  await openGraph(page);
  await page.route("**/api/**", (route) => route.abort());
  // Another window opens the stream anew, and that now fails.
  await page.getByText("15m", { exact: true }).click();
  await expect(page.getByText(/^reconnecting…/)).toBeVisible();
  await expect(page.getByRole("alert")).toContainText("The hub does not answer");
  await expect(node(page, "ratings-v1")).toBeVisible();
  await page.unroute("**/api/**");
  await expect(page.getByText(/^live · \d+\.\d s behind$/)).toBeVisible({ timeout: 20_000 });
});
