import { describe, expect, it } from "vitest";
import type { LiveState } from "../live/connection";
import { mesh, signals } from "../test/fixtures";
import { diagnose } from "./useSituation";

const live: LiveState = { phase: "live", receivedMillis: 1, attempt: 0, retryMillis: 0, error: "" };
const gone: LiveState = { ...live, phase: "reconnecting", attempt: 3, error: "refused" };
const silent = mesh({ signals: signals({ requests: 0 }) });

describe("diagnose", () => {
  it("waits while nothing is known", () => {
    expect(diagnose(null, { ...live, phase: "connecting" }, 0, 60).kind).toBe("connecting");
  });
  it("names a hub that never answered, with the number of attempts", () => {
    expect(diagnose(null, gone, 0, 60)).toEqual({ kind: "unreachable", attempt: 3, error: "refused" });
  });
  it("tells no sidecars from no traffic", () => {
    expect(diagnose(mesh({ sidecars: 0, sidecarsConnected: 0 }), live, 0, 60).kind).toBe("no-sidecars");
    expect(diagnose(silent, live, 0, 60)).toMatchObject({ kind: "no-traffic", connected: 2, known: 2 });
  });
  it("keeps a known graph on screen and says what is wrong", () => {
    expect(diagnose(mesh(), gone, 7, 60)).toMatchObject({ kind: "banner", cause: "hub-gone" });
    expect(diagnose(mesh({ sidecarsConnected: 0 }), live, 7, 60)).toMatchObject({ kind: "banner", cause: "sidecars-gone" });
    expect(diagnose(silent, live, 7, 60)).toMatchObject({ kind: "banner", cause: "no-traffic" });
  });
  it("shows the graph when all is well", () => {
    expect(diagnose(mesh(), live, 7, 60).kind).toBe("graph");
  });
});
