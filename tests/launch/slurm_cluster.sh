#!/bin/bash
# A SLURM cluster of two nodes on this machine, for tests: real daemons.
#
#   slurm_cluster.sh install      packages of Debian or Ubuntu (needs root)
#   slurm_cluster.sh start DIR [PID]  starts it; all of its files are in DIR
#   slurm_cluster.sh stop DIR     ends its daemons and their jobs
#
# With PID the cluster is stopped when that process ends. After `start`, SLURM
# commands use it if SLURM_CONF=DIR/slurm.conf is exported. Any user can start
# it; jobs run as that user. The nodes are named by their addresses, 127.0.0.1
# and 127.0.0.2, so that programs find each other without a name server.
# $IMGBENCH_SLURM_PORT: the first of three free ports.
# Exit codes: 0 done, 1 failed, 2 bad input.
set -euo pipefail

PORT=${IMGBENCH_SLURM_PORT:-17000}
PATH=$PATH:/usr/sbin:/sbin
WAIT_S=60

fail() {
  echo "slurm_cluster: $1" >&2
  exit "${2:-1}"
}

# Prints the first missing SLURM program.
missing() {
  for name in slurmctld slurmd munged sbatch; do
    command -v $name >/dev/null || { echo $name && return; }
  done
}

install() {
  [ -n "$(missing)" ] || return 0
  command -v apt-get >/dev/null || fail "no apt-get: install SLURM by hand"
  [ "$(id -u)" = 0 ] || fail "installing packages needs root"
  # Daemons that the packages start end for lack of a configuration. A munged
  # that keeps running is harmless: ours has its own socket.
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q
  apt-get install -q -y --no-install-recommends slurm-wlm munge
}

# A job may exceed its time limit by seconds only, a node may take 20 s to end a
# job, and a requeued job restarts after 5 s instead of 120 (cred_expire).
write_conf() {
  cat >"$DIR/slurm.conf" <<END
ClusterName=imgbench-test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
SlurmctldPort=$PORT
AuthType=auth/munge
AuthInfo=socket=$DIR/munge/socket,cred_expire=5
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool-%n
SlurmctldPidFile=$DIR/slurmctld.pid
SlurmdPidFile=$DIR/slurmd-%n.pid
SlurmctldLogFile=$DIR/slurmctld.log
SlurmdLogFile=$DIR/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=20
OverTimeLimit=0
InactiveLimit=0
MaxArraySize=101
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=127.0.0.[1-2] NodeHostname=$(hostname -s) NodeAddr=127.0.0.[1-2] \
Port=[$((PORT + 1))-$((PORT + 2))] CPUs=1
PartitionName=main Nodes=127.0.0.[1-2] Default=YES PriorityTier=1 \
GraceTime=30 OverSubscribe=NO
PartitionName=urgent Nodes=127.0.0.[1-2] PriorityTier=10 PreemptMode=OFF \
OverSubscribe=NO
END
}

start() {
  [ -z "$(missing)" ] || fail "$(missing) is not installed; run: $0 install"
  mkdir -p "$DIR"/{munge,state,spool-127.0.0.1,spool-127.0.0.2}
  chmod 755 "$DIR/munge"
  (umask 077 && head -c 128 /dev/urandom >"$DIR/munge/key")
  write_conf
  export SLURM_CONF=$DIR/slurm.conf
  trap 'stop' ERR
  munged --socket="$DIR/munge/socket" --key-file="$DIR/munge/key" \
    --pid-file="$DIR/munge/pid" --log-file="$DIR/munge/log" \
    --seed-file="$DIR/munge/seed" --num-threads=2 --force
  slurmctld -i
  for node in 127.0.0.1 127.0.0.2; do
    slurmd -N $node
  done
  for ((i = 0; i < 10 * WAIT_S; i++)); do
    if [ "$(sinfo -h -N -p main -o %t 2>/dev/null)" = $'idle\nidle' ]; then
      if [ -n "$OWNER" ]; then
        setsid "$0" guard "$DIR" "$OWNER" </dev/null >/dev/null 2>&1 &
      fi
      echo "export SLURM_CONF=$SLURM_CONF"
      return
    fi
    sleep 0.1
  done
  sinfo -N -l >&2 || true
  tail -n 5 "$DIR"/*.log >&2 || true
  stop
  fail "the two nodes are not idle after $WAIT_S s; see above"
}

# Whether a process of this number and name runs; zombies do not.
lives() {
  case "$(ps -o stat=,comm= -p "$1")" in
  "" | Z*) return 1 ;;
  *"$2") return 0 ;;
  *) return 1 ;;
  esac
}

# Ends the daemon of a pid file and waits for its end.
end() {
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 0
  for ((i = 0; i < 100; i++)); do
    lives "$pid" "$2" || return 0
    [ "$i" -gt 0 ] || kill "$pid"
    sleep 0.1
  done
  kill -9 "$pid"
}

stop() {
  trap - ERR
  export SLURM_CONF=$DIR/slurm.conf
  if [ -e "$DIR/slurmctld.pid" ]; then
    timeout 10 scancel --user="$(id -un)" 2>/dev/null || true
    for ((i = 0; i < 300; i++)); do
      [ -n "$(timeout 5 squeue -h 2>/dev/null)" ] || break
      sleep 0.1
    done
  fi
  end "$DIR/slurmctld.pid" slurmctld
  end "$DIR/slurmd-127.0.0.1.pid" slurmd
  end "$DIR/slurmd-127.0.0.2.pid" slurmd
  end "$DIR/munge/pid" munged
}

# Stops the cluster when its owner has ended; ends when it is stopped.
guard() {
  local pid
  pid=$(cat "$DIR/slurmctld.pid")
  while lives "$pid" slurmctld; do
    if ! lives "$OWNER" ""; then
      stop
      return
    fi
    sleep 1
  done
}

case "${1:-}" in
install) install ;;
start | stop | guard)
  [ -n "${2:-}" ] || fail "$1: expected a folder after it" 2
  [ "$1" = start ] || [ -d "$2" ] || exit 0
  mkdir -p "$2"
  DIR=$(cd "$2" && pwd)
  OWNER=${3:-}
  "$1"
  ;;
*) fail "expected install, start DIR [PID] or stop DIR, got '${1:-}'" 2 ;;
esac
