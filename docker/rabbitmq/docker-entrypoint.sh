#!/bin/bash
# Becomes the program it was asked for, as the user `rabbitmq` where that program is RabbitMQ's.
set -euo pipefail

if [[ $1 == rabbitmq* && $(id -u) == 0 ]]; then
  if [[ $1 == rabbitmq-server ]]; then
    find /var/lib/rabbitmq \! -user rabbitmq -exec chown rabbitmq '{}' +
  fi
  exec setpriv --reuid=rabbitmq --regid=rabbitmq --clear-groups -- "$0" "$@"
fi

# A host name with dots in it needs long node names, or the nodes refuse to talk.
if [[ -z ${RABBITMQ_USE_LONGNAME:-} && $(hostname) != "$(hostname -s)" ]]; then
  export RABBITMQ_USE_LONGNAME=true
fi

# With this, rabbitmq-server replaces its shell by the Erlang machine: the process with id 1 is the broker itself,
# so a signal sent to the container reaches it.
if [[ $1 == rabbitmq-server ]]; then
  export RUNNING_UNDER_SYSTEMD=true
fi

# Only now: preloaded into what ran above as root, libfaketime leaves locks that the other user may not open.
if [[ -n ${ASSAY_PRELOAD:-} ]]; then
  export LD_PRELOAD=$ASSAY_PRELOAD
fi

exec "$@"
