#!/usr/bin/env bash
# Images for the container engine: the official ones where a registry can be reached, else made here as drop-ins.
# usage: docker/images.sh          ASSAY_IMAGES=pull|build|auto (auto) says which of the two
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export DOCKER_BUILDKIT=0         # recipes that start from an imported root file system need no more, old engines have no less
WORK=

# recipe PROGRAM: a fingerprint of all that decides what its image becomes.
recipe() { { pinned "$1"; cat "$RECIPES/images.sh" "$RECIPES/$1"/*; } | sha256sum | cut -c1-16; }

# ready PROGRAM: its image is there, and not made by an older recipe of ours.
ready() {
  local labels
  labels=$(docker image inspect --format '{{index .Config.Labels "assay.built"}} {{index .Config.Labels "assay.recipe"}}' \
    "$(resolved "$1")" 2>/dev/null) || return 1
  [[ $labels != 1* || $labels == "1 $(recipe "$1")" ]]
}

# note PROGRAM REFERENCE: write down which image stands for it, where that is not the pinned one.
note() {
  (
    flock 7
    touch "$STATE/images.resolved"
    sed -i "/^$1=/d" "$STATE/images.resolved"
    [[ $2 == "$(pinned "$1")" ]] || echo "$1=$2" >>"$STATE/images.resolved"
  ) 7>"$STATE/images.lock"
}

# pulled PROGRAM SECONDS: the official image at its pinned version.
pulled() {
  timeout --kill-after=2 "$2" docker pull --quiet "$(pinned "$1")" >/dev/null 2>"$WORK/pull.log" || return 1
  note "$1" "$(pinned "$1")"
}

# build PROGRAM DIRECTORY [BASE]: the recipe, with what was put beside it, as assay/PROGRAM:new.
build() {
  docker build --quiet --label assay.built=1 --label "assay.recipe=$(recipe "$1")" \
    ${3:+--build-arg BASE="$3"} --tag "assay/$1:new" "$2" >/dev/null 2>"$WORK/$1-build.log" ||
    { cat "$WORK/$1-build.log" >&2; return 1; }
}

# name PROGRAM REFERENCE: give the built image its name, and write the name down.
name() {
  local before
  before=$(docker image inspect --format '{{.Id}}' "$2" 2>/dev/null || true)
  docker tag "assay/$1:new" "$2"
  docker rmi "assay/$1:new" >/dev/null
  [[ -z $before ]] || docker rmi "$before" >/dev/null 2>&1 || true      # what it replaces, unless it is still in use
  say images "$2 made here"
  note "$1" "$2"
}

# root_file_system SUITE PACKAGES HOOK FILE: a small Debian with the packages in it; snapshots of a mirror may be old.
root_file_system() {
  mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include="$2" ${3:+--essential-hook="$3"} "$1" - >"$4" 2>"$4.log"
}

# The official image's user has number 999; the package takes a user that is there already.
RABBITMQ_USER='echo "rabbitmq:x:999:" >>"$1/etc/group"
echo "rabbitmq:x:999:999:RabbitMQ messaging server:/var/lib/rabbitmq:/usr/sbin/nologin" >>"$1/etc/passwd"'

make_rabbitmq() {
  local suite version
  for suite in sid trixie; do
    say images "make rabbitmq from Debian $suite"
    root_file_system "$suite" rabbitmq-server,ca-certificates "$RABBITMQ_USER" "$WORK/rabbitmq.tar" && break
    grep -E '^E:' "$WORK/rabbitmq.tar.log" | tail -n 3
    [[ $suite != trixie ]] || return 1
  done
  docker import "$WORK/rabbitmq.tar" assay/rabbitmq-rootfs:new >/dev/null
  rm "$WORK/rabbitmq.tar"
  build rabbitmq "$RECIPES/rabbitmq" assay/rabbitmq-rootfs:new
  docker rmi --no-prune assay/rabbitmq-rootfs:new >/dev/null
  # Debian moves: the tag says what the server inside says it is.
  version=$(docker run --rm --label assay.built=1 assay/rabbitmq:new rabbitmqctl version | tail -n 1)
  [[ $version =~ ^[0-9]+(\.[0-9]+)+ ]] || { echo "rabbitmqctl version said: $version" >&2; return 1; }
  name rabbitmq "rabbitmq:${BASH_REMATCH[0]}-management"
}

make_tools() {
  say images "make tools from Debian bookworm: iptables, ip, perl, ps for the sidecars"
  root_file_system bookworm iptables,iproute2,procps '' "$WORK/tools.tar" || { grep -E '^E:' "$WORK/tools.tar.log"; return 1; }
  docker import "$WORK/tools.tar" assay/tools-rootfs:new >/dev/null
  rm "$WORK/tools.tar"
  build tools "$RECIPES/tools" assay/tools-rootfs:new
  docker rmi --no-prune assay/tools-rootfs:new >/dev/null
  name tools "$(pinned tools)"
}

# A Go program is one static file: the recipe with the program that the step `programs` has put into the venv.
make_from_program() {
  local program=$1 executable=$VENV/bin/$2
  [[ -x $executable ]] || { echo "$executable is missing: the step programs makes it" >&2; return 1; }
  mkdir "$WORK/$program"
  cp "$RECIPES/$program"/* "$WORK/$program"
  cp -L "$executable" "$WORK/$program/$2"
  build "$program" "$WORK/$program"
  name "$program" "$(pinned "$program")"
}
make_nats() { make_from_program nats nats-server; }
make_toxiproxy() { make_from_program toxiproxy toxiproxy-server; }

# The tools image has no official one: its recipe on Debian's image, where that can be pulled.
pull_tools() { build tools "$RECIPES/tools" && name tools "$(pinned tools)"; }

main() {
  local program wanted=() build_these=() mode=${ASSAY_IMAGES:-auto} jobs=() job failed=0
  for program in nats toxiproxy tools rabbitmq; do
    ready "$program" || wanted+=("$program")
  done
  ((${#wanted[@]})) || { say images "all four are here"; return; }

  WORK=$(mktemp -d "${TMPDIR:-/tmp}/assay-images.XXXXXX")
  trap 'rm -rf "$WORK"' EXIT
  if [[ $mode == auto ]]; then
    say images "is there a registry? one pull of $(pinned nats), 20 s at most"
    if pulled nats 20; then mode=pull; else mode=build; say images "no: $(tail -n 1 "$WORK/pull.log" | cut -c1-90)"; fi
  fi
  for program in "${wanted[@]}"; do
    if [[ $mode == pull ]]; then
      say images "pull $(pinned "$program")"
      if [[ $program == tools ]]; then pull_tools && continue; else pulled "$program" 300 && continue; fi
      say images "$program could not be pulled"
    fi
    build_these+=("$program")
  done
  if [[ " ${build_these[*]} " =~ \ (rabbitmq|tools)\  ]] && { ! install mmdebstrap debian-archive-keyring || [[ $(id -u) != 0 ]]; }; then
    missing "images rabbitmq, tools" "no registry, and no mmdebstrap as root to make them" \
      "run this as root on Debian or Ubuntu, or load the images: docker load"
    mapfile -t build_these < <(printf '%s\n' "${build_these[@]}" | grep -vxE 'rabbitmq|tools')
    failed=1
  fi
  for program in "${build_these[@]}"; do       # side by side: each waits for the network most of the time
    (set -e; "make_$program") &
    jobs+=("$program $!")
  done
  for job in "${jobs[@]}"; do
    wait "${job#* }" || { missing "image ${job% *}" "it could not be made, see above" "repeat make setup"; failed=1; }
  done
  return "$failed"
}

main
