import { expect, test } from "@playwright/test";
import { required } from "./mesh";

test("a hub without sidecars says so, proves it and names the next step", async ({ page }) => {
  await page.goto(required("TELEMESH_EMPTY_URL"));
  await expect(page.getByRole("heading", { name: "No sidecar has connected yet" })).toBeVisible();
  await expect(page.getByText(/^0 sidecars connected$/)).toBeVisible();
  await expect(page.getByText("meshctl demo", { exact: true })).toBeVisible();
  await expect(page.getByText("meshctl run --service NAME --port P -- CMD")).toBeVisible();
});
