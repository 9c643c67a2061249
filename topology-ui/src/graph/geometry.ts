import type { Link, Placement, Structure } from "./store";

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface Box {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** A cubic Bézier curve from one card to another, and where its label sits. */
export interface Curve {
  readonly id: string;
  readonly from: Point;
  readonly c1: Point;
  readonly c2: Point;
  readonly to: Point;
  readonly label: Point;
  /** Chord and control polygon averaged: within a few per cent of the length. */
  readonly length: number;
}

/** A whole picture in canvas pixels at zoom 1. */
export interface Scene {
  readonly centres: ReadonlyMap<string, Point>;
  readonly curves: readonly Curve[];
  readonly bounds: Box;
}

export const cardWidth = 190;
export const cardHeight = 76;
export const labelWidth = 122;
export const labelHeight = 22;

// The hub's layout units have 260 between layers and 110 between rows. Cards
// are wider than its nodes and labels must fit between two layers, so the
// picture is stretched; a fixed factor keeps positions as stable as the hub's.
const stretchX = 1.36;
const stretchY = 1.08;
const portGap = 13;
const arrowRoom = 9;

/**
 * Turns the hub's positions into cards, curves and labels. A pure function of
 * the structure: numbers cannot move anything.
 */
export function sceneOf(structure: Structure): Scene {
  const centres = new Map<string, Point>();
  for (const p of structure.placements) {
    centres.set(p.id, centreOf(p));
  }
  const ports = portOffsets(structure.links, centres);
  const cards = [...centres.values()].map(cardBox);
  const bare = structure.links.flatMap((link) => {
    const source = centres.get(link.source);
    const destination = centres.get(link.destination);
    return source && destination ? [curveOf(link, source, destination, ports, cards)] : [];
  });
  const curves = placeLabels(bare, cards);
  return { centres, curves, bounds: boundsOf([...centres.values()], curves) };
}

function centreOf(p: Placement): Point {
  return { x: p.x * stretchX, y: p.y * stretchY };
}

export function cardBox(centre: Point): Box {
  return {
    left: centre.x - cardWidth / 2,
    top: centre.y - cardHeight / 2,
    right: centre.x + cardWidth / 2,
    bottom: centre.y + cardHeight / 2,
  };
}

export function pathData(c: Curve): string {
  const p = ({ x, y }: Point) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  return `M${p(c.from)}C${p(c.c1)} ${p(c.c2)} ${p(c.to)}`;
}

export function pointAt(c: Pick<Curve, "from" | "c1" | "c2" | "to">, t: number): Point {
  const u = 1 - t;
  const mix = (a: number, b: number, d: number, e: number) =>
    u * u * u * a + 3 * u * u * t * b + 3 * u * t * t * d + t * t * t * e;
  return { x: mix(c.from.x, c.c1.x, c.c2.x, c.to.x), y: mix(c.from.y, c.c1.y, c.c2.y, c.to.y) };
}

/** Topmost node whose card holds the point, for pointer input of any renderer. */
export function hitTest(scene: Scene, at: Point): string | null {
  for (const [id, centre] of [...scene.centres].reverse()) {
    if (holds(cardBox(centre), at)) return id;
  }
  return null;
}

/**
 * Where each edge leaves and enters, as an offset from the card's middle:
 * edges that share a side are spread in the order of their other ends, so that
 * they do not cross at the card.
 */
function portOffsets(links: readonly Link[], centres: ReadonlyMap<string, Point>): Map<string, number> {
  const sides = new Map<string, { key: string; y: number }[]>();
  const put = (side: string, key: string, other: Point | undefined) => {
    const list = sides.get(side) ?? [];
    list.push({ key, y: other?.y ?? 0 });
    sides.set(side, list);
  };
  for (const link of links) {
    put(`out ${link.source}`, `out ${link.id}`, centres.get(link.destination));
    put(`in ${link.destination}`, `in ${link.id}`, centres.get(link.source));
  }
  const offsets = new Map<string, number>();
  for (const list of sides.values()) {
    list.sort((a, b) => a.y - b.y || a.key.localeCompare(b.key));
    const gap = Math.min(portGap, (cardHeight - 24) / Math.max(1, list.length - 1));
    list.forEach((port, i) => offsets.set(port.key, (i - (list.length - 1) / 2) * gap));
  }
  return offsets;
}

type BareCurve = Omit<Curve, "label">;

interface Ends {
  readonly source: Point;
  readonly destination: Point;
  readonly out: number;
  readonly into: number;
}

function curveOf(link: Link, source: Point, destination: Point, ports: ReadonlyMap<string, number>, cards: readonly Box[]): BareCurve {
  const ends: Ends = { source, destination, out: ports.get(`out ${link.id}`) ?? 0, into: ports.get(`in ${link.id}`) ?? 0 };
  const dx = destination.x - source.x;
  if (Math.abs(dx) <= cardWidth) return sideArc(link, ends);
  const others = cards.filter((box) => !holds(box, source) && !holds(box, destination));
  const drawn = dx > 0 ? (bow: number) => forwards(link.id, ends, bow) : (bow: number) => backwards(link.id, ends, bow);
  return clearOf(others, drawn, dx > 0 ? forwardBows : backwardBows);
}

// How far a curve is bent aside, least first; below comes before above because
// labels hang down.
const forwardBows = [0, 90, -90, 170, -170, 260, -260, 360, -360, 460, -460];
const backwardBows = [110, 190, 280, 380, 500];

/** The least bent of the curves that runs behind no card, or the least hidden one. */
function clearOf(cards: readonly Box[], drawn: (bow: number) => BareCurve, bows: readonly number[]): BareCurve {
  let best = drawn(bows[0] ?? 0);
  let fewest = Infinity;
  for (const bow of bows) {
    const curve = drawn(bow);
    const hidden = samples.filter((t) => cards.some((box) => holds(box, pointAt(curve, t)))).length;
    if (hidden < fewest) {
      best = curve;
      fewest = hidden;
    }
    if (hidden === 0) break;
  }
  return best;
}

const samples = Array.from({ length: 19 }, (_, i) => (i + 1) / 20);

function forwards(id: string, { source, destination, out, into }: Ends, bow: number): BareCurve {
  const from = { x: source.x + cardWidth / 2, y: source.y + out };
  const to = { x: destination.x - cardWidth / 2 - arrowRoom, y: destination.y + into };
  const reach = Math.min(Math.max(48, (to.x - from.x) * 0.45), bow === 0 ? 190 : 420);
  return measured(id, from, { x: from.x + reach, y: from.y + bow }, { x: to.x - reach, y: to.y + bow }, to);
}

/** Back to an earlier layer: out at the foot, below what lies between, in at the foot. */
function backwards(id: string, { source, destination, out, into }: Ends, bow: number): BareCurve {
  const from = { x: source.x + out * 2, y: source.y + cardHeight / 2 };
  const to = { x: destination.x + into * 2, y: destination.y + cardHeight / 2 + arrowRoom };
  const depth = Math.max(from.y, to.y) + bow;
  return measured(id, from, { x: from.x, y: depth }, { x: to.x, y: depth }, to);
}

/** Inside one layer, or to itself: out at the right and back in at the right. */
function sideArc(link: Link, { source, destination, out, into }: Ends): BareCurve {
  const self = link.source === link.destination;
  const from = { x: source.x + cardWidth / 2, y: source.y + (self ? 18 : out) };
  const to = { x: destination.x + cardWidth / 2 + arrowRoom, y: destination.y + (self ? -18 : into) };
  const right = Math.max(from.x, to.x) + 70 + Math.abs(destination.y - source.y) * 0.2;
  return measured(link.id, from, { x: right, y: from.y }, { x: right, y: to.y }, to);
}

function holds(box: Box, at: Point): boolean {
  return at.x >= box.left && at.x <= box.right && at.y >= box.top && at.y <= box.bottom;
}

function measured(id: string, from: Point, c1: Point, c2: Point, to: Point): BareCurve {
  const d = (a: Point, b: Point) => Math.hypot(a.x - b.x, a.y - b.y);
  return { id, from, c1, c2, to, length: (d(from, to) + d(from, c1) + d(c1, c2) + d(c2, to)) / 2 };
}

const labelSpots = [0.5, 0.42, 0.58, 0.34, 0.66, 0.27, 0.73, 0.2, 0.8];

/** Slides each label along its curve to the first spot free of cards and other labels. */
function placeLabels(curves: readonly BareCurve[], cards: readonly Box[]): Curve[] {
  const taken: Box[] = [];
  return curves.map((curve) => {
    let best = pointAt(curve, 0.5);
    let bestOverlap = Infinity;
    for (const t of labelSpots) {
      const at = pointAt(curve, t);
      const box = labelBox(at);
      const overlap =
        taken.reduce((sum, b) => sum + overlapArea(box, b), 0) + cards.reduce((sum, b) => sum + overlapArea(box, b), 0);
      if (overlap < bestOverlap) {
        best = at;
        bestOverlap = overlap;
      }
      if (overlap === 0) break;
    }
    taken.push(labelBox(best));
    return { ...curve, label: best };
  });
}

function labelBox(at: Point): Box {
  const w = labelWidth / 2 + 4;
  const h = labelHeight / 2 + 3;
  return { left: at.x - w, right: at.x + w, top: at.y - h, bottom: at.y + h };
}

function overlapArea(a: Box, b: Box): number {
  const w = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  return w > 0 && h > 0 ? w * h : 0;
}

function boundsOf(centres: readonly Point[], curves: readonly Curve[]): Box {
  if (centres.length === 0) {
    return { left: 0, top: 0, right: 0, bottom: 0 };
  }
  const boxes = [
    ...centres.map(cardBox),
    ...curves.map((c) => labelBox(c.label)),
    ...curves.map((c) => pointAt(c, 0.5)).map(({ x, y }) => ({ left: x, top: y, right: x, bottom: y })),
  ];
  return {
    left: Math.min(...boxes.map((b) => b.left)),
    top: Math.min(...boxes.map((b) => b.top)),
    right: Math.max(...boxes.map((b) => b.right)),
    bottom: Math.max(...boxes.map((b) => b.bottom)),
  };
}
