import type { ApiError, RequestList, Series, Status, Trace } from "./types_gen";

export const apiRoot = "/api/mesh/v1";

/** The hub's own answer to a request that failed: what, and what to do next. */
export class HubError extends Error {
  constructor(
    message: string,
    readonly hint: string,
    /** HTTP status, 0 when the hub could not be reached. */
    readonly status: number,
  ) {
    super(message);
    this.name = "HubError";
  }
}

export interface RequestSearch {
  readonly service?: string;
  readonly status?: string;
  readonly limit: number;
}

export function getTrace(id: string, signal: AbortSignal): Promise<Trace> {
  return get<Trace>(`/requests/${encodeURIComponent(id)}`, signal);
}

export function getRequests(search: RequestSearch, signal: AbortSignal): Promise<RequestList> {
  const q = new URLSearchParams({ limit: String(search.limit) });
  if (search.service) q.set("service", search.service);
  if (search.status) q.set("status", search.status);
  return get<RequestList>(`/requests?${q.toString()}`, signal);
}

export function getSeries(kind: "node" | "edge", id: string, windowSeconds: number, signal: AbortSignal): Promise<Series> {
  const q = new URLSearchParams({ [kind]: id, window: String(windowSeconds) });
  return get<Series>(`/series?${q.toString()}`, signal);
}

export function getStatus(signal: AbortSignal): Promise<Status> {
  return get<Status>("/status", signal);
}

/** Asks for a fresh layout; the new positions arrive on the stream. */
export async function tidy(): Promise<void> {
  await call("/graph/tidy", { method: "POST" });
}

async function get<T>(path: string, signal: AbortSignal): Promise<T> {
  const response = await call(path, { signal, headers: { Accept: "application/json" } });
  // The boundary where the hub's word is taken: its types are generated from
  // the structs that it encodes.
  return (await response.json()) as T;
}

async function call(path: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(apiRoot + path, init);
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === "AbortError") throw cause;
    throw new HubError("The hub does not answer.", "Is it running? `meshctl status` tells.", 0);
  }
  if (!response.ok) {
    throw await errorOf(response);
  }
  return response;
}

async function errorOf(response: Response): Promise<HubError> {
  const text = await response.text();
  try {
    const body = JSON.parse(text) as Partial<ApiError>;
    return new HubError(body.error ?? `The hub answered ${response.status}.`, body.hint ?? "", response.status);
  } catch {
    return new HubError(`The hub answered ${response.status}.`, text.slice(0, 200), response.status);
  }
}
