import { useQuery, type UseQueryResult } from "@tanstack/react-query";
import { getTrace } from "../api/client";
import type { Trace } from "../api/types_gen";
import { nanosToMillis } from "../graph/format";
import { detailsPending } from "../graph/request";

const againMillis = 3_000;
const settledMillis = 20_000;
const pendingMillis = 400;

/**
 * The request with this ID; nothing is asked for an empty one. Records arrive a
 * second or two after their request, so what is unknown is asked for again,
 * and so is a young trace in which a side is missing. Details that the hub has
 * ordered come within a second.
 */
export function useTrace(id: string): UseQueryResult<Trace> {
  return useQuery({
    queryKey: ["trace", id],
    queryFn: ({ signal }) => getTrace(id, signal),
    enabled: id !== "",
    refetchInterval: ({ state }) => {
      if (state.status === "error") return againMillis;
      if (state.data && detailsPending(state.data)) return pendingMillis;
      if (!state.data || state.data.gaps.length === 0) return false;
      return Date.now() - nanosToMillis(state.data.startUnixNano) < settledMillis ? againMillis : false;
    },
  });
}
