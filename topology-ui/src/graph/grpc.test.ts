import { describe, expect, it } from "vitest";
import { grpcStatusName } from "./grpc";

describe("grpcStatusName", () => {
  it.each([
    ["0", "OK"], ["1", "CANCELLED"], ["4", "DEADLINE_EXCEEDED"], ["8", "RESOURCE_EXHAUSTED"], ["14", "UNAVAILABLE"], ["16", "UNAUTHENTICATED"],
    ["17", "17"], ["4294967295", "4294967295"], ["", ""], ["OK", "OK"],
  ])("writes %j as %j", (status, want) => expect(grpcStatusName(status)).toBe(want));
});
