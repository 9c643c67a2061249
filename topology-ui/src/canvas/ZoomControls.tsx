import { Tooltip } from "@mantine/core";
import { tidy } from "../api/client";
import { Icon, type IconName } from "../parts/Icon";
import type { CameraControl } from "./useCamera";

export function ZoomControls({ control }: { control: CameraControl }) {
  // A hub that is gone shows in the live clock; the button needs no second word for it.
  const layOut = () => void tidy().then(control.fitAll, () => undefined);
  return (
    <div className="zoom overlay" role="group" aria-label="View">
      <Tool icon="plus" label="Zoom in (+)" act={() => control.zoomBy(1.25)} />
      <span className="zoom-level">{Math.round(control.camera.zoom * 100)}%</span>
      <Tool icon="minus" label="Zoom out (−)" act={() => control.zoomBy(0.8)} />
      <Tool icon="fit" label="Fit to view (0)" act={control.fitAll} />
      <Tool icon="tidy" label="Lay out afresh" act={layOut} />
    </div>
  );
}

function Tool({ icon, label, act }: { icon: IconName; label: string; act: () => void }) {
  return (
    <Tooltip label={label} position="left" withArrow>
      <button type="button" className="tool" aria-label={label} onClick={act}>
        <Icon name={icon} />
      </button>
    </Tooltip>
  );
}
