import { useMemo } from "react";
import { pathOf, type RequestPath } from "../graph/request";
import type { Structure } from "../graph/store";
import { useTrace } from "../panel/useTrace";
import { useStructure, useView } from "../state/context";

/** What the canvas brings forward. Null sets mean that everything is. */
export interface Emphasis {
  readonly nodes: ReadonlySet<string> | null;
  readonly edges: ReadonlySet<string> | null;
  /** The request whose path is lit, if that is the reason. */
  readonly path: RequestPath | null;
  readonly selected: string;
}

const everything: Emphasis = { nodes: null, edges: null, path: null, selected: "" };

export function useEmphasis(): Emphasis {
  const { selection } = useView();
  const structure = useStructure();
  const { data: trace } = useTrace(selection.kind === "request" ? selection.id : "");
  return useMemo(() => {
    if (selection.kind === "node") return around(structure, selection.id);
    if (selection.kind === "edge") return alone(structure, selection.id);
    if (selection.kind === "request" && trace) {
      const path = pathOf(trace);
      return { nodes: path.nodes, edges: new Set(path.hopsByEdge.keys()), path, selected: "" };
    }
    return everything;
  }, [selection, structure, trace]);
}

function around(structure: Structure, id: string): Emphasis {
  if (!structure.placements.some((p) => p.id === id)) return everything;
  const links = structure.links.filter((l) => l.source === id || l.destination === id);
  return {
    nodes: new Set([id, ...links.flatMap((l) => [l.source, l.destination])]),
    edges: new Set(links.map((l) => l.id)),
    path: null,
    selected: id,
  };
}

function alone(structure: Structure, id: string): Emphasis {
  const link = structure.links.find((l) => l.id === id);
  if (!link) return everything;
  return { nodes: new Set([link.source, link.destination]), edges: new Set([id]), path: null, selected: id };
}
