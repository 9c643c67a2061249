import { PanelHead } from "./PanelHead";

/** The selection names something that the graph does not hold (any more). */
export function Gone({ what, id, close }: { what: string; id: string; close: () => void }) {
  return (
    <>
      <PanelHead kicker={what} title={id} close={close} />
      <div className="panel-body">
        <p className="note">The graph holds no {what} with this ID. It may have left the mesh, or the link is from another one.</p>
      </div>
    </>
  );
}
