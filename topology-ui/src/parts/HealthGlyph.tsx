import type { Health } from "../api/types_gen";
import { healthDisplay } from "../graph/health";

/** The state by shape and colour. Without a title it is decoration beside a word. */
export function HealthGlyph({ health, size = 16, titled = false }: { health: Health; size?: number; titled?: boolean }) {
  const { label, outline, mark } = healthDisplay(health);
  return (
    <svg
      className="glyph"
      data-health={health}
      width={size}
      height={size}
      viewBox="0 0 16 16"
      {...(titled ? { role: "img", "aria-label": label } : { "aria-hidden": true })}
    >
      <path className="glyph-outline" d={outline} />
      <path className="glyph-mark" d={mark} />
    </svg>
  );
}
