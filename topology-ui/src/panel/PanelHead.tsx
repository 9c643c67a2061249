import type { ReactNode } from "react";
import type { Health } from "../api/types_gen";
import { healthDisplay } from "../graph/health";
import { HealthGlyph } from "../parts/HealthGlyph";
import { Icon } from "../parts/Icon";

interface Props {
  readonly kicker: string;
  readonly title: ReactNode;
  readonly close: () => void;
  readonly children?: ReactNode;
}

export function PanelHead({ kicker, title, close, children }: Props) {
  return (
    <header className="panel-head">
      <div className="panel-kicker">{kicker}</div>
      <h2>{title}</h2>
      {children}
      <button type="button" className="tool panel-close" aria-label="Close the panel" onClick={close}>
        <Icon name="close" />
      </button>
    </header>
  );
}

/** The state in words with its reason. */
export function HealthLine({ health, reason }: { health: Health; reason: string }) {
  return (
    <p className="health-line" data-health={health}>
      <HealthGlyph health={health} size={15} />
      <b>{healthDisplay(health).label}</b>
      {reason !== "" && <span>{reason}</span>}
    </p>
  );
}
