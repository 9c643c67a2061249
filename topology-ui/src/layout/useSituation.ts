import type { Mesh } from "../api/types_gen";
import { useLive, useMesh, useStructure, useView } from "../state/context";
import type { LiveState } from "../live/connection";

/** What the page can show, and if it is not the graph, why. */
export type Situation =
  | { readonly kind: "graph" }
  | { readonly kind: "connecting" }
  | { readonly kind: "unreachable"; readonly attempt: number; readonly error: string }
  | { readonly kind: "no-sidecars" }
  | { readonly kind: "no-traffic"; readonly connected: number; readonly known: number; readonly windowSeconds: number }
  | Notice;

/** Something to know beside a graph that can still be shown. */
export type Notice = {
  readonly kind: "banner";
  readonly cause: "hub-gone" | "no-traffic" | "sidecars-gone";
  readonly connected: number;
  readonly known: number;
  readonly windowSeconds: number;
};

export function useSituation(): Situation {
  const mesh = useMesh();
  const live = useLive();
  const { placements } = useStructure();
  const { windowSeconds } = useView();
  return diagnose(mesh, live, placements.length, windowSeconds);
}

/** A pure function of what is known, so that each case can be tested. */
export function diagnose(mesh: Mesh | null, live: LiveState, nodes: number, windowSeconds: number): Situation {
  if (mesh === null) {
    return live.phase === "reconnecting"
      ? { kind: "unreachable", attempt: live.attempt, error: live.error }
      : { kind: "connecting" };
  }
  const counts = { connected: mesh.sidecarsConnected, known: mesh.sidecars, windowSeconds };
  if (nodes === 0) {
    if (live.phase === "reconnecting") return { kind: "unreachable", attempt: live.attempt, error: live.error };
    return mesh.sidecars === 0 ? { kind: "no-sidecars" } : { kind: "no-traffic", ...counts };
  }
  if (live.phase === "reconnecting" || live.phase === "stale") return { kind: "banner", cause: "hub-gone", ...counts };
  if (mesh.sidecars > 0 && mesh.sidecarsConnected === 0) return { kind: "banner", cause: "sidecars-gone", ...counts };
  if (mesh.signals.requests === 0) return { kind: "banner", cause: "no-traffic", ...counts };
  return { kind: "graph" };
}
