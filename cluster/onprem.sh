#!/usr/bin/env bash
# tfser on machines that you reach over ssh.
#
#   bash cluster/onprem.sh start  [HOSTS]     Ray on every machine, MLflow on the first; what runs already stays
#   bash cluster/onprem.sh status [HOSTS]
#   bash cluster/onprem.sh stop   [HOSTS]     ends what `start` started, by process id; no Ray of other users
#
# HOSTS (default: cluster/hosts) has one ssh destination a line, the head first, with options of `ray start` after it:
#
#     anna@node0 --num-cpus=0      # the head; without --num-cpus=0 it runs trials as well
#     anna@node1
#     anna@node2 --num-gpus=2
#
# Settings, from the environment (needed: TFSER_HOME):
#
#     TFSER_HOME            shared folder (same path everywhere) or URI for ledger, features, tables and MLflow's copy
#     TFSER_DATA            the corpora: shared folder or URI
#     TFSER_ROOT            this checkout's path on every machine; default: its path here
#     TFSER_ENV             the Python environment's path on every machine; default: TFSER_ROOT/.venv
#     TFSER_HEAD_IP         the head's address for the other machines; default: what Ray finds
#     TFSER_PORTS           Ray's ports between machines are this one to 999 above it; default: 7000
#     TFSER_DASHBOARD_PORT, TFSER_MLFLOW_PORT   on the head's loopback; default: 8265 and 5000
#     TFSER_TRIAL_CPUS, TFSER_TRIAL_GPUS, TFSER_MPS, TFSER_MLFLOW_DATABASE, TFSER_CACHE   passed on if set
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
action=${1:-}
hosts_file=${2:-$here/hosts}
: "${TFSER_ROOT:=$(dirname "$here")}" "${TFSER_ENV:=$TFSER_ROOT/.venv}" "${TFSER_PORTS:=7000}"
: "${TFSER_DASHBOARD_PORT:=8265}" "${TFSER_MLFLOW_PORT:=5000}" "${TFSER_HEAD_IP:=}"

wrong() {
  printf 'onprem.sh: %s\n' "$1" >&2
  exit 2
}

case "$action" in
  start | status | stop) ;;
  *) wrong "start, status or stop? (for example: bash cluster/onprem.sh start)" ;;
esac
[ -r "$hosts_file" ] ||
  wrong "no hosts: $hosts_file cannot be read; write one ssh destination a line into it, the head first"
mapfile -t hosts < <(sed 's/#.*//; s/^[[:space:]]*//; s/[[:space:]]*$//; /^$/d' "$hosts_file")
[ "${#hosts[@]}" -gt 0 ] || wrong "$hosts_file names no machine"
if [ "$action" = start ]; then
  [ -n "${TFSER_HOME:-}" ] ||
    wrong "TFSER_HOME is not set; name a folder that every machine reaches under the same path, or a URI"
  if ! [[ "$TFSER_PORTS" =~ ^[0-9]+$ ]] || [ "$TFSER_PORTS" -lt 1024 ] || [ "$TFSER_PORTS" -gt 64000 ]; then
    wrong "TFSER_PORTS $TFSER_PORTS: from 1024 to 64000"
  fi
fi

# Runs a script from standard input on a host, with our settings before it: no secret is in a command line.
on() {
  local host=$1 name
  # shellcheck disable=SC2034  # read by name, below
  local ADDRESS=$2 OPTIONS=$3
  {
    for name in TFSER_ROOT TFSER_ENV TFSER_PORTS TFSER_DASHBOARD_PORT TFSER_MLFLOW_PORT TFSER_HEAD_IP TFSER_HOME \
      TFSER_DATA TFSER_TRIAL_CPUS TFSER_TRIAL_GPUS TFSER_MPS TFSER_MLFLOW_DATABASE TFSER_CACHE ADDRESS OPTIONS; do
      if [ -n "${!name:-}" ]; then printf 'export %s=%q\n' "$name" "${!name}"; fi
    done
    printf '%s\n' "$common"
    cat
  } | ssh -o BatchMode=yes -o ConnectTimeout=10 "$host" bash -s
}

common=$(
  cat <<'REMOTE'
set -euo pipefail
state=$HOME/.tfser-cluster/$(hostname)   # the home folder may be shared
(umask 077; mkdir -p "$state")
mark=TFSER_CLUSTER=$state
# Tells whether a process belongs to this cluster: all of them inherit the mark.
marked() { { tr '\0' '\n' <"/proc/$1/environ" | grep -qxF -- "$mark"; } 2>/dev/null; }
ours() {
  local folder
  for folder in /proc/[0-9]*; do
    if marked "${folder#/proc/}"; then printf '%s\n' "${folder#/proc/}"; fi
  done
}
runs() { [ -s "$state/ray.pid" ] && marked "$(cat "$state/ray.pid")"; }
REMOTE
)

token() {
  local token=$HOME/.ray/auth_token
  if [ ! -s "$token" ]; then
    (
      umask 077
      mkdir -p "$HOME/.ray"
      od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' >"$token"
    )
    echo "made a token: $token"
  fi
  chmod 600 "$token"
  for line in "${hosts[@]}"; do
    # shellcheck disable=SC2016  # expands there
    ssh -o BatchMode=yes -o ConnectTimeout=10 "${line%% *}" '
      set -eu; umask 077; mkdir -p "$HOME/.ray"; theirs=$HOME/.ray/auth_token; new=$(cat)
      if [ -s "$theirs" ] && [ "$(cat "$theirs")" != "$new" ]; then
        echo "$(hostname) has another token in $theirs, perhaps of another cluster;" \
          "move it away, or copy it to this machine" >&2; exit 1
      fi
      printf %s "$new" >"$theirs.$$"; chmod 600 "$theirs.$$"; mv -f "$theirs.$$" "$theirs"' <"$token"
  done
}

start_ray=$(
  cat <<'REMOTE'
if runs; then
  echo "$(hostname): Ray runs already (process $(cat "$state/ray.pid"))"
else
  left=$(ours)
  if [ -n "$left" ]; then
    echo "$(hostname): processes of an earlier start are left: $(echo $left); run onprem.sh stop" >&2
    exit 1
  fi
  if ! [ -x "$TFSER_ENV/bin/ray" ]; then
    echo "$(hostname): no $TFSER_ENV/bin/ray; set tfser up there, or name its place with TFSER_ENV" >&2
    exit 1
  fi
  PATH=$TFSER_ENV/bin:$PATH
  export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
  export RAY_JOB_STOP_WAIT_TIME_S=30 RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=10
  # Ray's metrics endpoints ask for no token and would listen on every interface.
  export RAY_enable_metrics_collection=0 AUTOSCALER_METRIC_PORT=-1 DASHBOARD_METRIC_PORT=-1
  export MLFLOW_TRACKING_URI=http://127.0.0.1:$TFSER_MLFLOW_PORT
  p=$TFSER_PORTS
  set -- --node-manager-port=$((p + 3)) --object-manager-port=$((p + 4)) --dashboard-agent-listen-port=$((p + 5)) \
    --dashboard-agent-grpc-port=$((p + 6)) --runtime-env-agent-port=$((p + 7)) --metrics-export-port=$((p + 8)) \
    --min-worker-port=$((p + 100)) --max-worker-port=$((p + 999)) --disable-usage-stats --block ${OPTIONS:-}
  if [ -n "${ADDRESS:-}" ]; then
    set -- --address="$ADDRESS" "$@"
  else
    set -- --head --port="$p" --dashboard-host=127.0.0.1 --dashboard-port="$TFSER_DASHBOARD_PORT" \
      --ray-client-server-port=$((p + 2)) ${TFSER_HEAD_IP:+--node-ip-address="$TFSER_HEAD_IP"} "$@"
  fi
  bash "$TFSER_ROOT/cluster/mps.sh" start || echo "$(hostname): training goes on without MPS"
  ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"
  cd "$HOME"
  env "$mark" setsid nohup ray start "$@" >"$state/ray.log" 2>&1 </dev/null &
  echo $! >"$state/ray.pid"
  for _ in $(seq 240); do
    if grep -q 'Ray runtime started' "$state/ray.log"; then break; fi
    if ! kill -0 "$(cat "$state/ray.pid")" 2>/dev/null; then
      echo "$(hostname): Ray ended at once:" >&2
      tail -n 20 "$state/ray.log" >&2
      exit 1
    fi
    sleep 0.5
  done
  if ! grep -q 'Ray runtime started' "$state/ray.log"; then
    echo "$(hostname): Ray is not up after two minutes; see $state/ray.log" >&2
    exit 1
  fi
  echo "$(hostname): Ray runs (process $(cat "$state/ray.pid"))"
fi
REMOTE
)

start_head=$(
  cat <<'REMOTE'
"$TFSER_ENV/bin/python" "$TFSER_ROOT/cluster/mlflow_service.py" start \
  --folder "$state/mlflow" --port "$TFSER_MLFLOW_PORT"
# Without Ray's colours.
sed -n 's/\x1b\[[0-9;]*m//g; s/.*Local node IP: *\([^ ]*\).*/address \1/p' "$state/ray.log" | head -n 1
REMOTE
)

stop_ray=$(
  cat <<'REMOTE'
if runs; then kill -TERM "$(cat "$state/ray.pid")" 2>/dev/null || true; fi
for _ in $(seq 120); do
  if ! runs; then break; fi
  sleep 0.5
done
# Processes that the first one left behind, or could not end in a minute.
for pid in $(ours); do kill -KILL "$pid" 2>/dev/null || true; done
rm -f "$state/ray.pid"
if [ -d "$state/mlflow" ]; then
  "$TFSER_ENV/bin/python" "$TFSER_ROOT/cluster/mlflow_service.py" stop --folder "$state/mlflow"
fi
echo "$(hostname): Ray does not run"
REMOTE
)

status_ray=$(
  cat <<'REMOTE'
if runs; then
  echo "$(hostname): Ray runs (process $(cat "$state/ray.pid"))"
else
  echo "$(hostname): Ray does not run"
fi
if [ -d "$state/mlflow" ]; then
  "$TFSER_ENV/bin/python" "$TFSER_ROOT/cluster/mlflow_service.py" status --folder "$state/mlflow" || true
  if runs; then RAY_AUTH_MODE=token "$TFSER_ENV/bin/ray" status --address="127.0.0.1:$TFSER_PORTS" || true; fi
fi
REMOTE
)

options_of() { if [ "$1" = "${1%% *}" ]; then echo; else echo "${1#* }"; fi; }

case "$action" in
  start)
    token
    said=$(on "${hosts[0]%% *}" "" "$(options_of "${hosts[0]}")" <<<"$start_ray"$'\n'"$start_head")
    sed '/^address /d' <<<"$said"
    ip=${TFSER_HEAD_IP:-$(sed -n 's/^address //p' <<<"$said")}
    [ -n "$ip" ] || wrong "the head did not say its address; name it with TFSER_HEAD_IP"
    failed=0
    for line in "${hosts[@]:1}"; do
      on "${line%% *}" "$ip:$TFSER_PORTS" "$(options_of "$line")" <<<"$start_ray" || failed=1
    done
    head=${hosts[0]%% *} dashboard_port=$TFSER_DASHBOARD_PORT mlflow_port=$TFSER_MLFLOW_PORT
    cat <<END
From here:
  ssh -N -L $dashboard_port:127.0.0.1:$dashboard_port -L $mlflow_port:127.0.0.1:$mlflow_port $head
  export RAY_AUTH_MODE=token RAY_API_SERVER_ADDRESS=http://127.0.0.1:$TFSER_DASHBOARD_PORT
  ray job submit --working-dir . -- python -m tfser.sweep casia
END
    exit "$failed"
    ;;
  stop)
    failed=0
    for ((i = ${#hosts[@]} - 1; i >= 0; i--)); do   # the head last
      on "${hosts[i]%% *}" "" "" <<<"$stop_ray" || failed=1
    done
    exit "$failed"
    ;;
  status)
    failed=0
    for line in "${hosts[@]}"; do
      on "${line%% *}" "" "" <<<"$status_ray" || failed=1
    done
    exit "$failed"
    ;;
esac
