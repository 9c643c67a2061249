import { expect, it } from "vitest";
import { nameOfID, shortHost, shortName } from "./names";

it("leaves the version to its chip", () => {
  expect(shortName({ id: "default/reviews-v2", workload: "reviews-v2", version: "v2" })).toBe("reviews");
  expect(shortName({ id: "default/v2", workload: "v2", version: "v2" })).toBe("v2");
  expect(shortName({ id: "external/api.example", workload: "", version: "" })).toBe("external/api.example");
});

it("shortens IDs and hosts", () => {
  expect(nameOfID("default/reviews-v2")).toBe("reviews-v2");
  expect(nameOfID("")).toBe("unknown");
  expect(shortHost("reviews.default.svc.cluster.local")).toBe("reviews");
});
