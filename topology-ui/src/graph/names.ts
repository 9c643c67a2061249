import type { Node } from "../api/types_gen";

/** A workload without its version, which stands beside it in a chip: "reviews" for reviews-v2. */
export function shortName(node: Pick<Node, "workload" | "version" | "id">): string {
  const name = node.workload || node.id;
  const suffix = `-${node.version}`;
  return node.version !== "" && name.endsWith(suffix) && name.length > suffix.length ? name.slice(0, -suffix.length) : name;
}

/** The last part of a node's ID, for a node that is no longer (or not yet) in the graph. */
export function nameOfID(id: string): string {
  return id.slice(id.lastIndexOf("/") + 1) || "unknown";
}

/** "reviews" for "reviews.default.svc.cluster.local". */
export function shortHost(host: string): string {
  return host.split(".")[0] ?? host;
}
