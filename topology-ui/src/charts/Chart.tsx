import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import { formatClock } from "../graph/format";
import type { Columns } from "../graph/series";
import { useTheme } from "../state/theme";

export interface Line {
  readonly label: string;
  /** Custom property of the theme, as in "--chart-ok". */
  readonly colour: string;
  /** area: a line over a soft fill; solid: a fill alone, which vanishes at zero. */
  readonly style: "line" | "dashed" | "area" | "solid";
}

interface Props {
  readonly title: string;
  readonly columns: Columns;
  readonly lines: readonly Line[];
  readonly format: (value: number) => string;
  /** Values as read, where the drawn ones are stacked. */
  readonly readings?: Columns;
  readonly height?: number;
}

/**
 * A time series on a canvas, with its legend above in text: the newest values,
 * or those under the pointer.
 */
export function Chart({ title, columns, lines, format, readings, height = 112 }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(null);
  const { scheme } = useTheme();
  const [cursor, setCursor] = useState<number | null>(null);
  const data = useMemo(() => columns.map((c) => [...c]) as uPlot.AlignedData, [columns]);
  const latest = useRef(data);
  useLayoutEffect(() => {
    latest.current = data;
    plot.current?.setData(data);
  }, [data]);
  const key = lines.map((l) => l.label).join();
  useEffect(() => {
    const element = host.current;
    if (!element) return;
    const u = new uPlot(options(element, lines, format, height, setCursor), latest.current, element);
    plot.current = u;
    const observer = new ResizeObserver(() => u.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      u.destroy();
      plot.current = null;
    };
    // Lines are told apart by their labels; colours follow the theme.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [scheme, key, height, format]);
  const values = readings ?? columns;
  const at = cursor ?? lastKnown(values);
  const reading = (i: number) => {
    const v = values[i + 1]?.[at];
    return v === null || v === undefined ? "–" : format(v);
  };
  return (
    <figure className="chart">
      <figcaption>
        <span className="chart-title">{title}</span>
        <span className="chart-legend">
          {lines.map((line, i) => (
            <span key={line.label} className="chart-key">
              <i style={{ background: `var(${line.colour})` }} />{line.label} <b>{reading(i)}</b>
            </span>
          ))}
        </span>
      </figcaption>
      <div ref={host} className="chart-plot" style={{ height }} aria-hidden="true" />
    </figure>
  );
}

/** Newest second with any value; a second still being counted may have none. */
function lastKnown(columns: Columns): number {
  const length = columns[0]?.length ?? 0;
  for (let i = length - 1; i > Math.max(0, length - 5); i--) {
    if (columns.slice(1).some((c) => c[i] !== null && c[i] !== 0)) return i;
  }
  return length - 1;
}

const minutes = [60, 120, 300, 600, 900];

function clock(unixSeconds: number): string {
  return formatClock(unixSeconds * 1000).slice(0, 5);
}

function options(
  element: HTMLElement,
  lines: readonly Line[],
  format: (v: number) => string,
  height: number,
  onCursor: (index: number | null) => void,
): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const font = "11px 'Inter Variable', system-ui, sans-serif";
  const axis = { stroke: colour("--text-muted"), font, grid: { stroke: colour("--chart-grid"), width: 1 }, ticks: { show: false } };
  return {
    width: Math.max(60, element.clientWidth),
    height,
    padding: [6, 4, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.12 : 1] } },
    axes: [
      { ...axis, size: 22, space: 52, incrs: minutes, values: (_, ticks) => ticks.map(clock), grid: { show: false } },
      { ...axis, size: 52, space: 30, values: (_, ticks) => ticks.map((t) => format(t).replace(/\.0+(?!\d)/, "").replace(/^<.*/, "0")) },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        label: line.label,
        stroke: colour(line.colour),
        width: line.style === "solid" ? 0 : 1.5,
        ...(line.style === "dashed" ? { dash: [4, 3] } : {}),
        ...(line.style === "area" ? { fill: `${colour(line.colour)}26` } : {}),
        ...(line.style === "solid" ? { fill: colour(line.colour) } : {}),
        points: { show: false },
        spanGaps: true,
      })),
    ],
    hooks: { setCursor: [(u) => onCursor(u.cursor.idx ?? null)] },
  };
}
