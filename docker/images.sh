#!/usr/bin/env bash
# Images for the container engine: the official ones where a registry can be reached, else made here as drop-ins.
# usage: docker/images.sh            the images that every run needs
#        docker/images.sh versions   brokers of other versions, as images.env lists them (`program@version`)
# ASSAY_IMAGES=pull|build|auto (auto) says which of the two
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export DOCKER_BUILDKIT=0         # recipes that start from an imported root file system need no more, old engines have no less
WORK=

# recipe PROGRAM[@VERSION]: a fingerprint of all that decides what its image becomes.
recipe() { { pinned "$1"; cat "$RECIPES/images.sh" "$RECIPES/${1%@*}"/*; } | sha256sum | cut -c1-16; }

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

# made PROGRAM[@VERSION], made PROGRAM[@VERSION] rootfs: what its image is called until it has its name.
made() { tr @ - <<<"assay/$1${2:+-$2}:new"; }

# build PROGRAM[@VERSION] DIRECTORY [BASE]: the recipe, with what was put beside it, as `made` calls it.
build() {
  docker build --quiet --label assay.built=1 --label "assay.recipe=$(recipe "$1")" \
    ${3:+--build-arg BASE="$3"} --tag "$(made "$1")" "$2" >/dev/null 2>"$WORK/$1-build.log" ||
    { cat "$WORK/$1-build.log" >&2; return 1; }
}

# name PROGRAM REFERENCE: give the built image its name, and write the name down.
name() {
  local before
  before=$(docker image inspect --format '{{.Id}}' "$2" 2>/dev/null || true)
  docker tag "$(made "$1")" "$2"
  docker rmi "$(made "$1")" >/dev/null
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

# make_rabbitmq_of PROGRAM[@VERSION] SUITE...: RabbitMQ from the first of these Debian suites that has one.
make_rabbitmq_of() {
  local key=$1 tar=$WORK/$1.tar base suite version
  base=$(made "$key" rootfs)
  shift
  for suite in "$@"; do
    say images "make $key from Debian $suite"
    root_file_system "$suite" rabbitmq-server,ca-certificates,libfaketime "$RABBITMQ_USER" "$tar" && break
    grep -E '^E:' "$tar.log" | tail -n 3
    [[ $suite != "${*: -1}" ]] || return 1
  done
  docker import "$tar" "$base" >/dev/null
  rm "$tar"
  build "$key" "$RECIPES/rabbitmq" "$base"
  docker rmi --no-prune "$base" >/dev/null
  # Debian moves: the tag says what the server inside says it is.
  version=$(docker run --rm --label assay.built=1 "$(made "$key")" rabbitmqctl version | tail -n 1)
  [[ $version =~ ^[0-9]+(\.[0-9]+)+ ]] || { echo "rabbitmqctl version said: $version" >&2; return 1; }
  version=${BASH_REMATCH[0]}
  if [[ $key == *@* && $version != "${key#*@}".* ]]; then
    echo "Debian $suite has RabbitMQ $version, not ${key#*@}" >&2
    return 1
  fi
  name "$key" "rabbitmq:$version-management"
}
make_rabbitmq() { make_rabbitmq_of rabbitmq sid trixie; }
make_rabbitmq@3.10() { make_rabbitmq_of rabbitmq@3.10 bookworm; }
make_rabbitmq@4.0() { make_rabbitmq_of rabbitmq@4.0 trixie; }

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

# A server of another version is built for its image alone: the one in the venv is the pinned one.
make_nats@2.12() {
  local key=nats@2.12 version go
  version=$(version_of "$key")
  go=$(go_program) || { echo "there is no Go to build nats-server $version with" >&2; return 1; }
  say images "make $key: build nats-server $version"
  mkdir "$WORK/$key"
  cp "$RECIPES/nats"/* "$WORK/$key"
  GOBIN=$WORK/$key GOFLAGS=-mod=mod CGO_ENABLED=0 "$go" install -ldflags "-s -w" \
    "github.com/nats-io/nats-server/v2@v$version" >"$WORK/$key.log" 2>&1 || { tail -n 5 "$WORK/$key.log" >&2; return 1; }
  build "$key" "$WORK/$key"
  name "$key" "$(pinned "$key")"
}

# The tools image has no official one: its recipe on Debian's image, where that can be pulled.
pull_tools() { build tools "$RECIPES/tools" && name tools "$(pinned tools)"; }

main() {
  local program programs wanted=() build_these=() mode=${ASSAY_IMAGES:-auto} jobs=() job failed=0 again='repeat make setup'
  case ${1:-} in
    '') programs=(nats toxiproxy tools rabbitmq) ;;
    versions) mapfile -t programs < <(versions) ;;
    *) echo "usage: docker/images.sh [versions]" >&2; return 64 ;;
  esac
  for program in "${programs[@]}"; do
    ready "$program" || wanted+=("$program")
  done
  ((${#wanted[@]})) || { say images "${programs[*]} are here"; return; }

  [[ -z ${1:-} ]] || again="repeat make versions"
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
  if [[ " ${build_these[*]} " =~ \ (rabbitmq(@[0-9.]+)?|tools)\  ]] && { ! install mmdebstrap debian-archive-keyring || [[ $(id -u) != 0 ]]; }; then
    missing "images rabbitmq, tools" "no registry, and no mmdebstrap as root to make them" \
      "run this as root on Debian or Ubuntu, or load the images: docker load"
    mapfile -t build_these < <(printf '%s\n' "${build_these[@]}" | grep -vxE 'rabbitmq(@[0-9.]+)?|tools')
    failed=1
  fi
  for program in "${build_these[@]}"; do       # side by side: each waits for the network most of the time
    (set -e; "make_$program") &
    jobs+=("$program $!")
  done
  for job in "${jobs[@]}"; do
    wait "${job#* }" || { missing "image ${job% *}" "it could not be made, see above" "$again"; failed=1; }
  done
  return "$failed"
}

main "$@"
