#!/usr/bin/env bash
# Makes everything that Assay needs on this machine; a second run finds it made and does nothing.
#
# usage: docker/bootstrap.sh [STEP...]
#   venv       .venv with Assay and what it imports        (why: nothing of it goes into the system's Python)
#   engine     a Docker engine that answers                (why: nodes are containers, where there is one)
#   programs   nats-server, toxiproxy-server in .venv/bin  (why: --assay-engine processes runs without containers)
#   images     rabbitmq, nats, toxiproxy, tools            (why: what the containers are made of)
#   versions   other versions of the brokers' images, only where it is named (why: to compare, and to upgrade)
#   browser    chromium, only where it is named            (why: a test looks at the report as a reader does)
#
# ASSAY_SKIP=STEP,...     leaves steps out
# ASSAY_NO_INSTALL=1      refuses to install packages into the system
# ASSAY_REQUIRE_ENGINE=1  makes a missing engine or image a failure; else it is listed with its cure
# ASSAY_PYTHON=python3.12 the Python that the venv is made of
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

python() {
  local candidate
  for candidate in ${ASSAY_PYTHON:-} python3.13 python3.12 python3.11 python3; do
    "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    echo "$candidate"
    return
  done
  return 1
}

step_venv() {
  local stamp=$VENV/.assay-stamp fingerprint interpreter
  fingerprint=$({ cat "$ROOT/pyproject.toml"; echo "$ROOT"; } | sha256sum | cut -d' ' -f1)
  if [[ -x $VENV/bin/python && -f $stamp && $(cat "$stamp") == "$fingerprint" ]]; then
    say venv "up to date"
    return
  fi
  if [[ ! -x $VENV/bin/python ]]; then
    interpreter=$(python) || {
      missing venv "no Python 3.11 or newer with venv" "install python3.11 and python3.11-venv, or set ASSAY_PYTHON"
      return 1
    }
    say venv "make .venv with $("$interpreter" --version)"
    "$interpreter" -m venv "$VENV"
  fi
  say venv "install Assay and its dependencies, as pyproject.toml is new or changed; log: $STATE/pip.log"
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$ROOT[dev]" >"$STATE/pip.log" 2>&1 || {
    tail -n 5 "$STATE/pip.log"
    missing venv "pip could not install Assay's dependencies" "see $STATE/pip.log"
    return 1
  }
  echo "$fingerprint" >"$stamp"
}

step_engine() { "$RECIPES/engine.sh" start; }

# build_go NAME MODULE@VERSION FLAGS: one static program into .venv/bin.
build_go() {
  local go bin
  go=$(go_program) || { missing "$1" "no Go to build it with" "install Go 1.24 or newer"; return 1; }
  say programs "build $1 (${2##*@}) with $("$go" version | cut -d' ' -f3)"
  bin=$(mktemp -d)
  if ! GOBIN=$bin GOFLAGS=-mod=mod CGO_ENABLED=0 "$go" install -ldflags "-s -w $3" "$2" >"$STATE/go-$1.log" 2>&1; then
    tail -n 5 "$STATE/go-$1.log"
    missing "$1" "Go could not build $2" "see $STATE/go-$1.log"
    return 1
  fi
  mv "$bin"/* "$VENV/bin/$1"
  rmdir "$bin"
}

step_programs() {
  local version failed=0
  version=$(version_of nats)
  [[ $("$VENV/bin/nats-server" -v 2>/dev/null) == *"v$version" ]] ||
    build_go nats-server "github.com/nats-io/nats-server/v2@v$version" "" || failed=1
  version=$(version_of toxiproxy)
  [[ $("$VENV/bin/toxiproxy-server" -version 2>/dev/null) == *"$version" ]] ||
    build_go toxiproxy-server "github.com/Shopify/toxiproxy/v2/cmd/server@v$version" \
      "-X github.com/Shopify/toxiproxy/v2.Version=$version" || failed=1
  ((failed)) || say programs "nats-server and toxiproxy-server are in .venv/bin"
  if ! PATH=$PATH:/usr/sbin:/usr/lib/rabbitmq/bin command -v rabbitmq-server >/dev/null; then
    say programs "no rabbitmq-server here: --assay-engine processes runs NATS only (apt-get install rabbitmq-server)"
  fi
  return "$failed"
}

step_images() {
  engine_answers || { say images "left out: no engine answers"; return; }
  "$RECIPES/images.sh"
}

step_versions() {
  engine_answers || { missing versions "no engine answers" "make setup"; return 1; }
  "$RECIPES/images.sh" versions
}

wanted() {
  [[ " $STEPS " == *" $1 "* ]] || return 1
  [[ ",${ASSAY_SKIP:-}," != *",$1,"* ]] || { say "$1" "left out, as ASSAY_SKIP says"; return 1; }
}

step_browser() {
  command -v chromium >/dev/null && { say browser "chromium is here"; return; }
  install chromium || {
    missing browser "no chromium, and none may be installed here" "install Debian's package chromium"
    return 1
  }
  say browser "chromium is here"
}

# side_by_side STEP...: runs the steps at once and waits for all; FAILED says whether one of them did. (It returns
# no failure itself: what is called behind `||` runs without `set -e`, and so would the steps.)
FAILED=0
side_by_side() {
  local step job jobs=()
  for step in "$@"; do
    wanted "$step" || continue
    (set -e; "step_$step") &
    jobs+=("$!")
  done
  for job in "${jobs[@]}"; do
    wait "$job" || FAILED=1
  done
}

main() {
  local step began=$SECONDS
  for step in "$@"; do
    [[ " venv engine programs images versions browser " == *" $step "* ]] ||
      { echo "bootstrap: no step '$step'; there are: venv engine programs images versions browser" >&2; exit 64; }
  done
  STEPS=${*:-venv engine programs images}
  exec 9>"$STATE/bootstrap.lock"
  flock -n 9 || { say bootstrap "another set-up is at work, wait for it (15 min at most)"; flock -w 900 9; }
  : >"$STATE/missing"

  side_by_side venv engine
  side_by_side programs
  side_by_side images browser
  side_by_side versions
  report "$((SECONDS - began))"
}

# report SECONDS: what is missing, each with its cure. Only the venv is indispensable.
report() {
  local what reason cure
  while IFS=$'\t' read -r what reason cure; do
    printf 'missing:  %s: %s\n          cure: %s\n' "$what" "$reason" "$cure"
  done <"$STATE/missing"
  if [[ ! -x $VENV/bin/python ]] || grep -q '^venv' "$STATE/missing"; then
    say bootstrap "failed: without its venv nothing runs"
    exit 69
  fi
  if ((FAILED)) && [[ ${ASSAY_REQUIRE_ENGINE:-0} == 1 ]]; then
    say bootstrap "failed: ASSAY_REQUIRE_ENGINE=1 and not everything is here"
    exit 69
  fi
  say bootstrap "ready after $1 s"
  exit 0
}

main "$@"
