#!/usr/bin/env bash
# Regenerates the Go code of the protobuf contracts. Needs protoc; the plugins
# are pinned as tools of tools/go.mod.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
(cd tools && GOBIN="$bin" go install google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc)
PATH="$bin:$PATH" protoc -I api \
  --go_out=api --go_opt=paths=source_relative \
  --go-grpc_out=api --go-grpc_opt=paths=source_relative \
  api/telemetry/v1/telemetry.proto api/discovery/v1/discovery.proto api/policy/v1/policy.proto
go run ./internal/tsgen >topology-ui/src/api/types_gen.ts
