import AxeBuilder from "@axe-core/playwright";
import { expect, test, type Page } from "@playwright/test";
import type { RequestList } from "../src/api/types_gen";
import { details, edge, openGraph, required } from "./mesh";

async function seriousFaults(page: Page): Promise<string[]> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  return violations
    .filter((v) => v.impact === "serious" || v.impact === "critical")
    .flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.target.join(" ")}: ${n.failureSummary ?? ""}`));
}

for (const theme of ["light", "dark"] as const) {
  test.describe(`in the ${theme} theme axe finds no serious fault`, () => {
    test("on the graph", async ({ page }) => {
      await openGraph(page, `?theme=${theme}`);
      expect(await seriousFaults(page)).toEqual([]);
    });

    test("with a node's panel", async ({ page }) => {
      await openGraph(page, `?node=default/ratings-v1&theme=${theme}`);
      await expect(details(page).getByText("Traffic, per second")).toBeVisible();
      expect(await seriousFaults(page)).toEqual([]);
    });

    test("with an edge's panel", async ({ page }) => {
      await openGraph(page, `?theme=${theme}`);
      await edge(page, "reviews-v3", "ratings-v1").click();
      await expect(details(page).getByText("Traffic, per second")).toBeVisible();
      expect(await seriousFaults(page)).toEqual([]);
    });

    test("with a request's path", async ({ page }) => {
      const answer = await page.request.get("/api/mesh/v1/requests?service=ratings&limit=1");
      const { requests } = (await answer.json()) as RequestList;
      await openGraph(page, `?request=${requests[0]!.requestId}&theme=${theme}`);
      await expect(details(page).getByRole("region", { name: "Waterfall" })).toBeVisible();
      expect(await seriousFaults(page)).toEqual([]);
    });

    test("in the table", async ({ page }) => {
      await page.goto(`/?view=table&theme=${theme}`);
      await expect(page.getByRole("region", { name: "Edges" }).getByRole("row").nth(1)).toBeVisible();
      expect(await seriousFaults(page)).toEqual([]);
    });

    test("on an empty hub", async ({ page }) => {
      await page.goto(`${required("TELEMESH_EMPTY_URL")}/?theme=${theme}`);
      await expect(page.getByRole("heading", { name: "No sidecar has connected yet" })).toBeVisible();
      expect(await seriousFaults(page)).toEqual([]);
    });
  });
}
