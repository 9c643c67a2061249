#!/usr/bin/env bash
# Builds mesh-hub and mesh-proxy of another revision in a temporary git worktree, and
# has them talk to those in bin/: scripts/compat.sh REVISION [REQUESTS].
set -euo pipefail

rev=${1:?'compat: say the revision to compare with, as in make compat REV=v0.1.0'}
cd "$(dirname "$0")/.."
git rev-parse --verify --quiet "$rev^{commit}" >/dev/null ||
  { printf 'compat: %s is no revision of this repository; see git tag and git log\n' "$rev" >&2; exit 1; }

dir=$(mktemp -d)
trap 'git worktree remove --force "$dir/tree" 2>/dev/null || true; rm -rf "$dir"' EXIT
git worktree add --quiet --detach "$dir/tree" "$rev"
# Without the UI: its folder has a placeholder, and nobody looks at it here.
(cd "$dir/tree" && CGO_ENABLED=0 go build -o "$dir/bin/" ./cmd/mesh-hub ./cmd/mesh-proxy)
printf 'old is %s\n' "$(git log -1 --format='%h %s' "$rev")"
go run ./internal/compat -old "$dir/bin" -new bin -requests "${2:-2000}"
