import { useMemo, type KeyboardEvent } from "react";
import { cardBox, sceneOf, type Scene } from "../graph/geometry";
import { busiestNeighbour, layerNeighbour } from "../graph/navigate";
import type { GraphStore } from "../graph/store";
import { useServices, useStructure } from "../state/context";
import { EdgeCurve } from "./EdgeCurve";
import { EdgeLabel } from "./EdgeLabel";
import { useEmphasis } from "./emphasis";
import { Legend } from "./Legend";
import { NodeCard } from "./NodeCard";
import { useCamera, type CameraControl } from "./useCamera";
import { useReducedMotion } from "./useReducedMotion";
import { ZoomControls } from "./ZoomControls";

// Smaller than this, the labels' text can no longer be read and only hides curves.
const labelZoom = 0.4;

// Smaller than this, cards and labels say less in larger type.
const farZoom = 0.68;

// More curves than this move too much to mean anything and cost a core.
const mostMoving = 150;

/**
 * Draws the graph as cards (HTML, so that they are buttons with crisp text)
 * over curves (SVG). It takes everything from the scene, the camera and the
 * emphasis, and cards and labels read their own numbers from the store: a
 * renderer for larger graphs replaces this component and needs no more.
 */
export function GraphCanvas() {
  const structure = useStructure();
  const scene = useMemo(() => sceneOf(structure), [structure]);
  const emphasis = useEmphasis();
  const control = useCamera(scene.bounds);
  const still = useReducedMotion() || scene.curves.length > mostMoving;
  const onKeyDown = useKeys(scene, control);
  const { camera, gliding, frame } = control;
  return (
    <div ref={frame} className="canvas" role="region" aria-label="Service graph" onKeyDown={onKeyDown} data-path={emphasis.path !== null}>
      <div
        className="world"
        data-gliding={gliding}
        data-labels={camera.zoom >= labelZoom}
        data-far={camera.zoom < farZoom}
        style={{ transform: `translate(${camera.x}px, ${camera.y}px) scale(${camera.zoom})` }}
      >
        <svg className="edges" aria-hidden="true">
          {scene.curves.map((curve) => (
            <EdgeCurve key={curve.id} curve={curve} emphasis={emphasis} still={still} />
          ))}
        </svg>
        {structure.placements.map(({ id }) => {
          const at = scene.centres.get(id);
          return at && <NodeCard key={id} id={id} x={at.x} y={at.y} emphasis={emphasis} />;
        })}
        {scene.curves.map((curve) => (
          <EdgeLabel key={curve.id} id={curve.id} x={curve.label.x} y={curve.label.y} emphasis={emphasis} />
        ))}
      </div>
      <Legend />
      <ZoomControls control={control} />
    </div>
  );
}

const panStep = 60;

/** On a card arrows walk along the traffic; on the background they pan. */
function useKeys(scene: Scene, control: CameraControl): (e: KeyboardEvent<HTMLDivElement>) => void {
  const { store } = useServices();
  return (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const id = (e.target as HTMLElement).dataset.node;
    const goal = id === undefined ? null : neighbourFor(e.key, id, store, scene);
    const at = goal === null ? undefined : scene.centres.get(goal);
    if (goal !== null && at) {
      control.frame.current?.querySelector<HTMLElement>(`[data-node="${CSS.escape(goal)}"]`)?.focus({ preventScroll: true });
      control.show(cardBox(at));
      e.preventDefault();
    } else if (moveCamera(e.key, control)) {
      e.preventDefault();
    }
  };
}

function neighbourFor(key: string, id: string, store: GraphStore, scene: Scene): string | null {
  switch (key) {
    case "ArrowRight":
      return busiestNeighbour(store.allEdges(), id, "callee");
    case "ArrowLeft":
      return busiestNeighbour(store.allEdges(), id, "caller");
    case "ArrowDown":
      return layerNeighbour(scene.centres, id, 1);
    case "ArrowUp":
      return layerNeighbour(scene.centres, id, -1);
    default:
      return null;
  }
}

/** Reports whether the key meant a movement of the camera. */
function moveCamera(key: string, control: CameraControl): boolean {
  const moves = new Map<string, () => void>([
    ["+", () => control.zoomBy(1.25)],
    ["=", () => control.zoomBy(1.25)],
    ["-", () => control.zoomBy(0.8)],
    ["0", control.fitAll],
    ["ArrowRight", () => control.panBy(-panStep, 0)],
    ["ArrowLeft", () => control.panBy(panStep, 0)],
    ["ArrowDown", () => control.panBy(0, -panStep)],
    ["ArrowUp", () => control.panBy(0, panStep)],
  ]);
  const move = moves.get(key);
  move?.();
  return move !== undefined;
}
