#!/usr/bin/env bash
# A Docker engine: the one that answers, else one that we install and start by hand, which `stop` ends again.
# usage: docker/engine.sh start|stop|state
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

MINE=$STATE/dockerd.pid          # "PID START": the start time tells our dockerd from a later process with its number

start_time() { sed -E 's/^.*\) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
runs() { [[ $(cat "/proc/$1/comm" 2>/dev/null) == "$2" && $(sed -E 's/^.*\) //' "/proc/$1/stat" 2>/dev/null) != Z* ]]; }
is_dockerd() { runs "$1" dockerd; }

start() {
  local state
  state=$(engine_state)
  case $state in
    answers*) say engine "Docker ${state#answers } answers, used as it is"; return ;;
    hangs)
      say engine "a Docker engine takes connections and does not answer within 5 s"
      missing engine "it hangs" "restart it (make stop; make setup), or point DOCKER_HOST at another one"
      return 1
      ;;
  esac
  if [[ -n ${DOCKER_HOST:-} ]]; then
    missing engine "nothing answers at DOCKER_HOST=$DOCKER_HOST" "start that engine, or unset DOCKER_HOST"
    return 1
  fi
  if ! install docker.io iptables && ! command -v dockerd >/dev/null; then
    missing engine "none answers, and none may be installed here" \
      "install Docker, or run this as root on Debian or Ubuntu without ASSAY_NO_INSTALL; or use --assay-engine processes"
    return 1
  fi
  command -v docker >/dev/null || install docker-cli || true       # a package of its own in newer Debians
  if [[ $(id -u) != 0 ]]; then
    missing engine "Docker is installed, not running, and only root may start it" "start it, or join the group docker"
    return 1
  fi
  launch
}

# forget_if_gone FILE PROGRAM: removes the pid file of a PROGRAM that no longer runs.
forget_if_gone() {
  [[ -f $1 ]] || return 0
  runs "$(cat "$1")" "$2" && return
  say engine "remove $1, left by a $2 that is gone"
  rm -f "$1"
}

# Taking away the firewall rules of a killed container's 64 published ports takes 3.3 s through nf_tables and 0.5 s
# through the older interface (measured), so our dockerd finds that one first; unless an earlier dockerd has left rules
# in nf_tables, whose policy would drop what the new ones let through.
prefer_legacy_iptables() {
  local name variant
  command -v iptables-legacy >/dev/null || return 0
  iptables-legacy -t nat -S >/dev/null 2>&1 || return 0            # this kernel does not have it
  if iptables-nft -t nat -S DOCKER >/dev/null 2>&1; then return 0; fi
  mkdir -p "$STATE/bin"
  for name in iptables ip6tables iptables-save iptables-restore; do
    variant=$(command -v "${name/tables/tables-legacy}") && ln -sf "$variant" "$STATE/bin/$name"
  done
  PATH=$STATE/bin:$PATH
  say engine "its published ports go through iptables-legacy: a container with 64 of them stops 3 s faster"
}

launch() {
  local pid
  # A killed dockerd leaves its pid files, and the next one refuses to start, or waits for a containerd that is gone,
  # while any process has that number: also a zombie.
  forget_if_gone /var/run/docker.pid dockerd
  forget_if_gone /var/run/docker/containerd/containerd.pid containerd
  prefer_legacy_iptables
  say engine "start dockerd by hand, as nothing here starts services; log: $STATE/dockerd.log; make stop ends it"
  # Without the userland proxy a published port is a firewall rule: 64 of them cost nothing, and a killed
  # container's connections end at once instead of being held open by a proxy.
  # shellcheck disable=SC2086  # several options in one variable are meant
  setsid nohup dockerd ${ASSAY_DOCKERD_OPTIONS:---userland-proxy=false} \
    >"$STATE/dockerd.log" 2>&1 </dev/null 7>&- 8>&- 9>&- &
  pid=$!
  echo "$pid $(start_time "$pid")" >"$MINE"
  for _ in {1..150}; do
    sleep 0.2
    [[ -S /var/run/docker.sock ]] && engine_answers && { say engine "$(engine_state)"; return; }
    if ! is_dockerd "$pid" && [[ ! -d /proc/$pid ]]; then
      break
    fi
  done
  say engine "dockerd does not answer; it said last:"
  tail -n 5 "$STATE/dockerd.log"
  missing engine "dockerd does not start" "read $STATE/dockerd.log"
  return 1
}

stop() {
  local pid began
  if [[ ! -f $MINE ]]; then
    say engine "set-up started no dockerd here, so there is nothing to stop"
    return
  fi
  read -r pid began <"$MINE"
  if is_dockerd "$pid" && [[ $(start_time "$pid") == "$began" ]]; then
    say engine "stop the dockerd that set-up started (pid $pid)"
    kill "$pid"
    for _ in {1..150}; do
      is_dockerd "$pid" || break
      sleep 0.2
    done
    if is_dockerd "$pid"; then
      say engine "it did not stop within 30 s: killed"
      kill -KILL "$pid"
    fi
  else
    say engine "the dockerd that set-up started is gone already"
  fi
  rm -f "$MINE"
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  state) engine_state ;;
  *) echo "usage: docker/engine.sh start|stop|state" >&2; exit 64 ;;
esac
