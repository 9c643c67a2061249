import { expect, it } from "vitest";
import { commands } from "./commands";

it("quotes for a shell only what needs it", () => {
  expect(commands.request("it's")).toBe("meshctl trace 'it'\\''s'");
  expect(commands.serviceTap("reviews")).toBe("meshctl tap --service reviews");
});
