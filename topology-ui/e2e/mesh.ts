import { expect, type Locator, type Page } from "@playwright/test";

/** What `meshctl demo` runs: Bookinfo behind a load generator. */
export const workloads = [
  "loadgen-v1",
  "productpage-v1",
  "details-v1",
  "reviews-v1",
  "reviews-v2",
  "reviews-v3",
  "ratings-v1",
] as const;

/** Every call that Bookinfo makes; reviews-v1 does not ask for ratings. */
export const calls = [
  ["loadgen-v1", "productpage-v1"],
  ["productpage-v1", "details-v1"],
  ["productpage-v1", "reviews-v1"],
  ["productpage-v1", "reviews-v2"],
  ["productpage-v1", "reviews-v3"],
  ["reviews-v2", "ratings-v1"],
  ["reviews-v3", "ratings-v1"],
] as const;

export function canvas(page: Page): Locator {
  return page.getByRole("region", { name: "Service graph" });
}

/** Its name starts with the workload's; more about its state follows. */
export function node(page: Page, workload: string): Locator {
  return canvas(page).getByRole("button", { name: new RegExp(`^${workload}, namespace `) });
}

export function edge(page: Page, source: string, destination: string): Locator {
  return canvas(page).getByRole("button", { name: new RegExp(`\\b${source} to ${destination},`) });
}

export function details(page: Page): Locator {
  return page.getByRole("complementary", { name: "Details" });
}

export async function openGraph(page: Page, query = ""): Promise<void> {
  await page.goto(`/${query}`);
  await expect(page.getByText(/^live · \d+\.\d s behind$/)).toBeVisible();
  for (const workload of workloads) {
    await expect(node(page, workload)).toBeVisible();
  }
}

/** A setting that the run cannot do without. */
export function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: this spec needs it and must not be passed over`);
  return value;
}
