#!/usr/bin/env bash
# Installs from Debian what the tests need and this machine lacks, or with the
# argument "bench" what the benchmarks do, and from npm what the tests read
# segments with. Does nothing, and needs no rights, where everything is there.
set -euo pipefail

die() {
  printf 'install-test-tools: %s\n' "$*" >&2
  exit 1
}

# A copy of the lock file beside what was installed says for which lock it was.
install_duckdb() {
  local folder modules
  folder=$(dirname "$0")/../tools/duckdb
  modules=$folder/node_modules
  cmp -s "$folder/package-lock.json" "$modules/.installed-lock.json" && return
  command -v npm >/dev/null ||
    die "npm is missing: install Node 20.19 or later with npm from https://nodejs.org and run make test again"
  # Not npm ci, which wants the binaries of all platforms in the lock: versions
  # are exact, and what is in the lock is checked against it.
  (cd "$folder" && npm install --no-save) ||
    die "DuckDB could not be installed: see npm's message above; it needs a reachable npm registry (npm config get registry)"
  (cd "$folder" && echo '{"one": "select 1"}' | node query.mjs >/dev/null) ||
    die "DuckDB was installed and does not start: see its message above; it has binaries for Linux with glibc, and for others where npm offers them (@duckdb/node-bindings)"
  cp "$folder/package-lock.json" "$modules/.installed-lock.json"
}

# A package is missing when the program that the tests run is.
missing=()
programs=()
need() { # PACKAGES PROGRAM...
  local program
  programs+=("${@:2}")
  for program in "${@:2}"; do
    command -v "$program" >/dev/null && continue
    read -ra packages <<<"$1"
    missing+=("${packages[@]}")
    return 0
  done
}
PATH=$PATH:/usr/sbin:/sbin
case ${1:-test} in
  test)
    need chromium chromium
    need prometheus prometheus promtool
    need redis-server redis-server
    need curl curl
    need 'gcc libc6-dev' gcc # the race detector links with cgo
    # Capture is tested with real rules in network namespaces of its own.
    need 'nftables iptables iproute2' ip nft iptables-restore ip6tables-restore
    install_duckdb
    ;;
  bench)
    need nginx-light nginx
    need haproxy haproxy
    need wrk wrk
    need nghttp2 h2load nghttpx
    need util-linux taskset
    ;;
  *) die "want test or bench, not $1" ;;
esac
[ ${#missing[@]} -gt 0 ] || exit 0

command -v apt-get >/dev/null ||
  die "missing: ${missing[*]}. This is not a Debian system; install them with its package manager and run make test again"
[ "$(id -u)" = 0 ] ||
  die "missing: ${missing[*]}. Installing needs root: run 'sudo scripts/install-test-tools.sh', then make test again"

# Debian starts servers like prometheus and nginx at once and at every boot, on the default
# ports, where nobody asked for them. A policy-rc.d that says 101 forbids the
# start (invoke-rc.d(8)); what was there before comes back afterwards.
exec 9>/run/lock/telemesh-test-tools
flock 9
policy=/usr/sbin/policy-rc.d
saved=$policy.before-telemesh
restore() {
  rm -f "$policy"
  [ ! -e "$saved" ] || mv "$saved" "$policy"
}
# A run that was killed may have left its own policy, recognised by its name.
if grep -qs telemesh-test-tools "$policy"; then restore; fi
trap restore EXIT
trap 'exit 1' INT TERM HUP
[ ! -e "$policy" ] || mv "$policy" "$saved"
printf '#!/bin/sh\n# telemesh-test-tools\nexit 101\n' >"$policy"
chmod 755 "$policy"

apt() {
  DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null
}
apt update || die "apt-get update failed: see its message above, then check the network and /etc/apt/sources.list"
apt install -y --no-install-recommends "${missing[@]}" ||
  die "apt-get could not install ${missing[*]}: see its message above; 'apt-get install ${missing[*]}' tries again"

if [ -d /run/systemd/system ]; then
  for pair in prometheus:prometheus redis-server:redis-server nginx-light:nginx haproxy:haproxy nghttp2:nghttpx; do
    unit=${pair#*:}
    case " ${missing[*]} " in *" ${pair%:*} "*) systemctl disable --quiet "$unit" || echo "install-test-tools: $unit starts at the next boot; 'systemctl disable $unit' prevents it" >&2 ;; esac
  done
fi
for program in "${programs[@]}"; do
  command -v "$program" >/dev/null ||
    die "$program is still missing after its package was installed; look for it in PATH=$PATH"
done
