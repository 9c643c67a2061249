import { createContext, useCallback, useContext, useSyncExternalStore } from "react";
import type { Edge, Mesh, Node } from "../api/types_gen";
import type { GraphStore, Structure } from "../graph/store";
import type { GraphConnection, LiveState } from "../live/connection";
import type { Hover } from "./hover";
import type { ViewHistory } from "./history";
import type { Selection, View } from "./view";

/** The objects that main builds once and everything below reads. */
export interface Services {
  readonly store: GraphStore;
  readonly connection: GraphConnection;
  readonly history: ViewHistory;
  readonly hover: Hover;
}

export const ServicesContext = createContext<Services | null>(null);

export function useServices(): Services {
  const services = useContext(ServicesContext);
  if (services === null) throw new Error("a component stands outside of ServicesContext");
  return services;
}

/** The node as last reported; re-renders only when this node changes. */
export function useNode(id: string): Node | undefined {
  const { store } = useServices();
  const subscribe = useCallback((wake: () => void) => store.subscribeNode(id, wake), [store, id]);
  return useSyncExternalStore(subscribe, () => store.node(id));
}

/** The edge as last reported; re-renders only when this edge changes. */
export function useEdge(id: string): Edge | undefined {
  const { store } = useServices();
  const subscribe = useCallback((wake: () => void) => store.subscribeEdge(id, wake), [store, id]);
  return useSyncExternalStore(subscribe, () => store.edge(id));
}

export function useStructure(): Structure {
  const { store } = useServices();
  return useSyncExternalStore(useCallback((wake) => store.subscribeStructure(wake), [store]), () => store.structure());
}

/** Re-renders on each delta, once a second: for sums and tables only. */
export function useMesh(): Mesh | null {
  const { store } = useServices();
  return useSyncExternalStore(useCallback((wake) => store.subscribeAll(wake), [store]), () => store.mesh());
}

export function useAllEdges(): readonly Edge[] {
  const { store } = useServices();
  return useSyncExternalStore(useCallback((wake) => store.subscribeAll(wake), [store]), () => store.allEdges());
}

export function useAllNodes(): readonly Node[] {
  const { store } = useServices();
  return useSyncExternalStore(useCallback((wake) => store.subscribeAll(wake), [store]), () => store.allNodes());
}

export function useLive(): LiveState {
  const { connection } = useServices();
  return useSyncExternalStore(connection.subscribe, connection.state);
}

export function useView(): View {
  const { history } = useServices();
  return useSyncExternalStore(history.subscribe, history.view);
}

export function useSelect(): (selection: Selection) => void {
  const { history } = useServices();
  return useCallback((selection) => history.change({ selection }), [history]);
}

/** True while the pointer rests on this edge, here or in the waterfall. */
export function useEdgeHovered(id: string): boolean {
  const { hover } = useServices();
  return useSyncExternalStore(hover.subscribe, () => hover.edge() === id);
}
