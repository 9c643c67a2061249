import type { Delta, Edge, Graph, Mesh, Node } from "../api/types_gen";

/** Where a node stands and what it is called: all that drawing the layout needs. */
export interface Placement {
  readonly id: string;
  readonly x: number;
  readonly y: number;
}

/** An edge without its numbers. */
export interface Link {
  readonly id: string;
  readonly source: string;
  readonly destination: string;
}

/**
 * The shape of the graph. A new object appears only when a node or an edge
 * came, went or was moved by the hub, so that a change of numbers never leads
 * to a new layout of cards, curves or labels.
 */
export interface Structure {
  readonly placements: readonly Placement[];
  readonly links: readonly Link[];
}

type Listener = () => void;

const emptyStructure: Structure = { placements: [], links: [] };

/**
 * Holds the live graph outside React. Readers subscribe to what they draw (one
 * node, one edge, the structure, the sums), so a delta wakes only the cards
 * whose numbers it carries. Objects handed out are never changed afterwards.
 */
export class GraphStore {
  private readonly nodes = new Map<string, Node>();
  private readonly edges = new Map<string, Edge>();
  private readonly listeners = new Map<string, Set<Listener>>();
  private currentStructure = emptyStructure;
  private currentMesh: Mesh | null = null;
  private currentSequence = -1;
  private nodeList: readonly Node[] = [];
  private edgeList: readonly Edge[] = [];

  /** Replaces everything: the first event of a stream, or a resync. */
  setGraph(graph: Graph): void {
    const nodeIDs = new Set(graph.nodes.map((n) => n.id));
    const edgeIDs = new Set(graph.edges.map((e) => e.id));
    this.apply({
      sequence: graph.sequence,
      timeMillis: graph.timeMillis,
      nodes: graph.nodes,
      edges: graph.edges,
      removedNodes: [...this.nodes.keys()].filter((id) => !nodeIDs.has(id)),
      removedEdges: [...this.edges.keys()].filter((id) => !edgeIDs.has(id)),
      mesh: graph.mesh,
    });
  }

  /**
   * Brings the graph to the delta's sequence. Returns false, and changes
   * nothing, for a delta older than what is held: the hub has restarted and
   * the caller must ask for a whole graph. The same sequence again is applied
   * again, which changes nothing.
   */
  applyDelta(delta: Delta): boolean {
    if (delta.sequence < this.currentSequence) {
      return false;
    }
    this.apply(delta);
    return true;
  }

  node(id: string): Node | undefined {
    return this.nodes.get(id);
  }

  edge(id: string): Edge | undefined {
    return this.edges.get(id);
  }

  /** All nodes; the array is the same one until a node changes. */
  allNodes(): readonly Node[] {
    return this.nodeList;
  }

  /** All edges; the array is the same one until an edge changes. */
  allEdges(): readonly Edge[] {
    return this.edgeList;
  }

  structure(): Structure {
    return this.currentStructure;
  }

  /** Null until the first graph arrives. */
  mesh(): Mesh | null {
    return this.currentMesh;
  }

  /** -1 until the first graph arrives. */
  sequence(): number {
    return this.currentSequence;
  }

  subscribeNode(id: string, listener: Listener): () => void {
    return this.subscribe(`node ${id}`, listener);
  }

  subscribeEdge(id: string, listener: Listener): () => void {
    return this.subscribe(`edge ${id}`, listener);
  }

  subscribeStructure(listener: Listener): () => void {
    return this.subscribe("structure", listener);
  }

  /** Wakes on every graph and delta. */
  subscribeAll(listener: Listener): () => void {
    return this.subscribe("all", listener);
  }

  private apply(delta: Delta): void {
    const woken = new Set<string>(["all"]);
    let reshaped = false;
    for (const node of delta.nodes) {
      const old = this.nodes.get(node.id);
      reshaped ||= old === undefined || old.x !== node.x || old.y !== node.y;
      this.nodes.set(node.id, node);
      woken.add(`node ${node.id}`);
    }
    for (const edge of delta.edges) {
      const old = this.edges.get(edge.id);
      reshaped ||= old === undefined || old.source !== edge.source || old.destination !== edge.destination;
      this.edges.set(edge.id, edge);
      woken.add(`edge ${edge.id}`);
    }
    for (const id of delta.removedNodes) {
      reshaped = this.nodes.delete(id) || reshaped;
      woken.add(`node ${id}`);
    }
    for (const id of delta.removedEdges) {
      reshaped = this.edges.delete(id) || reshaped;
      woken.add(`edge ${id}`);
    }
    this.currentSequence = delta.sequence;
    this.currentMesh = delta.mesh;
    this.nodeList = [...this.nodes.values()];
    this.edgeList = [...this.edges.values()];
    if (reshaped) {
      this.currentStructure = shapeOf(this.nodeList, this.edgeList);
      woken.add("structure");
    }
    for (const topic of woken) {
      this.listeners.get(topic)?.forEach((wake) => wake());
    }
  }

  private subscribe(topic: string, listener: Listener): () => void {
    let set = this.listeners.get(topic);
    if (set === undefined) {
      set = new Set();
      this.listeners.set(topic, set);
    }
    set.add(listener);
    return () => {
      set.delete(listener);
      if (set.size === 0 && this.listeners.get(topic) === set) {
        this.listeners.delete(topic);
      }
    };
  }
}

/**
 * Sorted by ID, so that the order of the cards in the document (and with it
 * the tab order) does not depend on the order of arrival. Edges whose ends are
 * not (yet) known are left out.
 */
function shapeOf(nodes: readonly Node[], edges: readonly Edge[]): Structure {
  const known = new Set(nodes.map((n) => n.id));
  const placements = nodes
    .map(({ id, x, y }) => ({ id, x, y }))
    .sort((a, b) => a.x - b.x || a.y - b.y || a.id.localeCompare(b.id));
  const links = edges
    .filter((e) => known.has(e.source) && known.has(e.destination))
    .map(({ id, source, destination }) => ({ id, source, destination }))
    .sort((a, b) => a.id.localeCompare(b.id));
  return { placements, links };
}
