#!/bin/bash
# The launcher's commands on a TPU VM, part of the code that is copied there.
#
#   tpu_worker.sh setup [BUCKET[/FOLDER]]
#       installs Python 3.12 and imgbench, and mounts the data, read-only
#   tpu_worker.sh run NAME COMMAND...
#       runs a command detached from the connection, shows its output and exits
#       with its code; called again with the same NAME (gcloud repeats commands
#       after a broken connection), it follows that run or returns its code; a
#       run of another name is stopped first
#   tpu_worker.sh stop
#       lets the running command save and end
set -u -o pipefail

code=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
runs=$HOME/imgbench-runs
mount=/mnt/data

setup() {
  set -e
  cd "$code"
  # The VM images have an older Python; uv installs its own.
  python3 -m pip install --user --quiet uv
  python3 -m uv venv --quiet --allow-existing --python 3.12 .venv
  python3 -m uv pip install --quiet --python .venv/bin/python \
    --constraints requirements/constraints-py312.txt -e '.[tpu,gcs]'
  if [ $# -gt 0 ]; then mount_data "$1"; fi
}

mount_data() {
  local bucket=${1%%/*} folder=
  case $1 in */?*) folder=--only-dir=${1#*/} ;; esac
  command -v gcsfuse >/dev/null || install_gcsfuse
  if mountpoint -q "$mount"; then return; fi
  sudo mkdir -p "$mount"
  sudo chown "$(id -u)" "$mount"
  gcsfuse --implicit-dirs -o ro $folder "$bucket" "$mount"
}

install_gcsfuse() {
  local version=3.11.1 package
  package=$(mktemp -d)/gcsfuse.deb
  curl -fsSL -o "$package" "https://github.com/GoogleCloudPlatform/gcsfuse\
/releases/download/v$version/gcsfuse_${version}_amd64.deb"
  sudo apt-get install -y -qq "$package"
}

is_alive() { [ -s "$runs/pid" ] && kill -0 -- "-$(cat "$runs/pid")" 2>/dev/null; }

stop() {
  if ! is_alive; then return; fi
  # Signals its whole session; the shell in `start` survives to keep the code.
  kill -TERM -- "-$(cat "$runs/pid")"
  while is_alive; do sleep 0.2; done
}

start() {
  local name=$1
  shift
  rm -f "$runs/pid"
  echo "$name" >"$runs/name"
  # It must not inherit the lock (9).
  setsid bash -c '
    trap : TERM
    echo $$ >"$0/pid"
    "${@:2}" >"$0/$1.log" 2>&1
    echo $? >"$0/$1.tmp" && mv "$0/$1.tmp" "$0/$1.code"
  ' "$runs" "$name" "$@" </dev/null >/dev/null 2>&1 9>&- &
  until [ -s "$runs/pid" ]; do sleep 0.05; done
}

run() {
  local name=$1 follow
  shift
  mkdir -p "$runs"
  exec 9>"$runs/lock"
  flock 9
  cd "$code" || exit 1
  if [ ! -e "$runs/$name.code" ]; then
    if [ "$(cat "$runs/name" 2>/dev/null)" != "$name" ] || ! is_alive; then
      stop
      start "$name" "$@"
    fi
  fi
  flock -u 9
  touch "$runs/$name.log"
  tail -n +1 -f "$runs/$name.log" 9>&- &
  follow=$!
  while is_alive && [ "$(cat "$runs/name")" = "$name" ]; do sleep 0.2; done
  sleep 1 # for the last lines
  kill "$follow" 2>/dev/null
  # There is no code if it was killed with the shell that would write it.
  exit "$(cat "$runs/$name.code" 2>/dev/null || echo 137)"
}

action=${1:-}
if [ $# -gt 0 ]; then shift; fi
case $action in
setup | run | stop) "$action" "$@" ;;
*)
  echo "expected setup, run or stop, got: $action" >&2
  exit 2
  ;;
esac
