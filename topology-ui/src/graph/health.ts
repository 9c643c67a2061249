import type { Health } from "../api/types_gen";

/**
 * How a state is shown. Shape and word carry the state as much as colour does,
 * so nobody has to tell red from green.
 */
export interface HealthDisplay {
  readonly label: string;
  readonly meaning: string;
  /** Outline of the glyph in a 16 by 16 box, and the mark inside it. */
  readonly outline: string;
  readonly mark: string;
}

const displays: Record<Health, HealthDisplay> = {
  healthy: {
    label: "Healthy",
    meaning: "fewer than 0.1 % of requests fail",
    outline: "M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1Z",
    mark: "M4.900 8.200l2.200 2.200 4-4.600",
  },
  degraded: {
    label: "Degraded",
    meaning: "some requests fail or are refused by policy",
    outline: "M8 1.300 15.300 14.300H.700Z",
    mark: "M8 6v4M8 12v.200",
  },
  failing: {
    label: "Failing",
    meaning: "10 % or more of requests fail",
    outline: "M5.100 1h5.800L15 5.100v5.800L10.900 15H5.100L1 10.900V5.100Z",
    mark: "M5.500 5.500l5 5M10.500 5.500l-5 5",
  },
  idle: {
    label: "Idle",
    meaning: "no request in the window",
    outline: "M4 1.500h8A2.500 2.500 0 0 1 14.500 4v8a2.500 2.500 0 0 1-2.500 2.500H4A2.500 2.500 0 0 1 1.500 12V4A2.500 2.500 0 0 1 4 1.500Z",
    mark: "M4.800 8h6.400",
  },
  lost: {
    label: "Lost",
    meaning: "every sidecar is gone",
    outline: "M8 .800 15.200 8 8 15.200.800 8Z",
    mark: "M5.200 8h1.200M9.600 8h1.200M8 5.200v5.600",
  },
};

/** From best to worst, the order of the legend. */
export const healthOrder: readonly Health[] = ["healthy", "degraded", "failing", "idle", "lost"];

export function healthDisplay(health: Health): HealthDisplay {
  return displays[health];
}

/** Higher is worse; idle is not a fault. */
export function severity(health: Health): number {
  return { idle: 0, healthy: 1, degraded: 2, lost: 3, failing: 4 }[health];
}
