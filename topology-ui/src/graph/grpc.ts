/** The names of gRPC's status codes, by number (grpc.io/docs/guides/status-codes). */
const names = [
  "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

/** "UNAVAILABLE" for "14"; a number without a name, and what is no number, as it is. */
export function grpcStatusName(status: string): string {
  return /^\d+$/.test(status) ? (names[Number(status)] ?? status) : status;
}
