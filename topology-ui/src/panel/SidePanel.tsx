import { useSelect, useView } from "../state/context";
import { EdgePanel } from "./EdgePanel";
import { NodePanel } from "./NodePanel";
import { RequestPanel } from "./RequestPanel";

/** Details of what is selected. Absent when nothing is. */
export function SidePanel() {
  const { selection } = useView();
  const select = useSelect();
  if (selection.kind === "none") return null;
  const close = () => select({ kind: "none" });
  return (
    <aside className="panel" aria-label="Details" data-kind={selection.kind}>
      {selection.kind === "node" && <NodePanel key={selection.id} id={selection.id} close={close} />}
      {selection.kind === "edge" && <EdgePanel key={selection.id} id={selection.id} close={close} />}
      {selection.kind === "request" && <RequestPanel key={selection.id} id={selection.id} close={close} />}
    </aside>
  );
}
