import { useState } from "react";
import { healthDisplay, healthOrder } from "../graph/health";
import { HealthGlyph } from "../parts/HealthGlyph";
import { Icon } from "../parts/Icon";

export function Legend() {
  const [open, setOpen] = useState(true);
  return (
    <section className="legend overlay" aria-label="Legend">
      <button type="button" className="legend-toggle" aria-expanded={open} onClick={() => setOpen(!open)}>
        <span className="legend-chevron" data-open={open}><Icon name="chevron" size={12} /></span>
        Legend
      </button>
      {open && (
        <>
          <ul className="legend-health">
            {healthOrder.map((health) => (
              <li key={health} title={healthDisplay(health).meaning}>
                <HealthGlyph health={health} size={14} />
                {healthDisplay(health).label}
              </li>
            ))}
          </ul>
          <ul className="legend-marks">
            <li><span className="mark-policy"><Icon name="shield" size={12} /></span>refused by policy</li>
            <li><span className="mark-differ"><Icon name="differ" size={12} /></span>reporters disagree</li>
          </ul>
        </>
      )}
    </section>
  );
}
