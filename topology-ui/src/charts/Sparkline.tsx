const width = 120;
const height = 26;
const points = 60;

/** The course of a value without axes, scaled to its own largest. */
export function Sparkline({ values }: { values: readonly number[] }) {
  const shown = thin(values);
  const top = Math.max(...shown, 0);
  if (shown.length < 2 || top === 0) {
    return <svg className="sparkline" viewBox={`0 0 ${width} ${height}`} aria-hidden="true"><path d={`M0 ${height - 1}H${width}`} /></svg>;
  }
  const line = shown
    .map((v, i) => `${i === 0 ? "M" : "L"}${((i / (shown.length - 1)) * width).toFixed(1)} ${(height - 2 - (v / top) * (height - 5)).toFixed(1)}`)
    .join("");
  return (
    <svg className="sparkline" viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" aria-hidden="true">
      <path className="sparkline-area" d={`${line}L${width} ${height}L0 ${height}Z`} />
      <path d={line} />
    </svg>
  );
}

/** At most as many points as can be told apart, each the mean of its share. */
function thin(values: readonly number[]): number[] {
  const size = Math.max(1, Math.ceil(values.length / points));
  const out: number[] = [];
  for (let i = 0; i < values.length; i += size) {
    const share = values.slice(i, i + size);
    out.push(share.reduce((sum, v) => sum + v, 0) / share.length);
  }
  return out;
}
