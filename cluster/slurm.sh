#!/usr/bin/env bash
#SBATCH --job-name=tfser
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --exclusive
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=tfser-%j.log
#
# tfser under Slurm: one Ray cluster per job, over all its nodes, with the sweep on the first.
#
#   TFSER_HOME=/shared/tfser TFSER_DATA=/shared/corpora sbatch cluster/slurm.sh casia --trials 50
#
# Words after slurm.sh go to `python -m tfser.sweep`. Submit from the repository's root, with the environment active (or
# name it with TFSER_ENV). Add the site's partition and account by sbatch's own options.
#
# Shortly before the time is up, the sweep is stopped and the job queued again; it goes on where it was. The job is
# --exclusive because Ray's symmetric run ends with `ray stop`, which ends all your Rays on the node.
set -euo pipefail

wrong() {
  printf 'slurm.sh: %s\n' "$1" >&2
  exit 2
}
[ -n "${SLURM_JOB_ID:-}" ] ||
  wrong "this runs inside a job; submit it: sbatch cluster/slurm.sh DATABASE [options of tfser.sweep]"
[ -n "${TFSER_HOME:-}" ] ||
  wrong "TFSER_HOME is not set; name a folder that every node reaches under the same path, or a URI"
[ $# -gt 0 ] || wrong "no database; for example: sbatch cluster/slurm.sh casia"

root=${TFSER_ROOT:-${SLURM_SUBMIT_DIR:-$PWD}}
if [ -n "${TFSER_ENV:-}" ]; then
  PATH=$TFSER_ENV/bin:$PATH
elif [ -x "$root/.venv/bin/ray" ]; then
  PATH=$root/.venv/bin:$PATH
fi
command -v ray >/dev/null ||
  wrong "no ray on PATH; activate tfser's environment before sbatch, or name it with TFSER_ENV"
[ -r "$root/cluster/mlflow_service.py" ] ||
  wrong "$root is not the repository's root; submit from there, or name it with TFSER_ROOT"

# Ports for this job alone, below those that Linux assigns; and a short folder, because a socket path has at most 107
# letters.
port=$((20000 + SLURM_JOB_ID % 2000 * 4))
scratch=/tmp/tfser-$SLURM_JOB_ID
ip=${TFSER_HEAD_IP:-$(hostname -I | cut -d' ' -f1)}

# A token for this job alone: it is in no file, and only in the environment of this job's processes.
RAY_AUTH_TOKEN=$(od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
# Ray's metrics endpoints ask for no token and would listen on every interface.
export RAY_enable_metrics_collection=0 AUTOSCALER_METRIC_PORT=-1 DASHBOARD_METRIC_PORT=-1
export RAY_ADDRESS=$ip:$port RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=${RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT:-300}
# Seconds after which the other nodes notice that the first has ended Ray, and end too.
export RAY_gcs_rpc_server_reconnect_timeout_s=20
export MLFLOW_TRACKING_URI=http://127.0.0.1:$((port + 2))
export CUDA_MPS_PIPE_DIRECTORY=$scratch-mps TFSER_HOME

python "$root/cluster/mlflow_service.py" start --folder "$scratch-mlflow" --port $((port + 2)) ||
  echo "MLflow could not be started; training goes on without it"

# shellcheck disable=SC2016  # expands on the nodes
with_mps='bash "$1/cluster/mps.sh" start || echo "training goes on without MPS"; shift; exec "$@"'
# Notes the sweep's process id, so that the sweep can be stopped while its cluster still runs.
# shellcheck disable=SC2016
noted='echo $$ >"$1"; shift; exec "$@"'
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --kill-on-bad-exit=0 \
  bash -c "$with_mps" _ "$root" \
  ray symmetric-run --address "$RAY_ADDRESS" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --temp-dir="$scratch" --dashboard-host=127.0.0.1 --dashboard-port=$((port + 1)) \
  --ray-client-server-port=$((port + 3)) \
  --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --disable-usage-stats \
  -- bash -c "$noted" _ "$scratch-sweep.pid" python -m tfser.sweep --out "$TFSER_HOME" "$@" &
step=$!

out_of_time=0
# shellcheck disable=SC2317  # called by the traps
end_sweep() { kill -TERM "$(cat "$scratch-sweep.pid" 2>/dev/null || echo "$step")" 2>/dev/null || true; }
trap 'out_of_time=1; end_sweep' USR1   # Slurm's signal that the time is nearly up
trap end_sweep TERM INT
code=0
while kill -0 "$step" 2>/dev/null; do
  code=0
  wait "$step" || code=$?
done

python "$root/cluster/mlflow_service.py" stop --folder "$scratch-mlflow" || true
rm -rf "$scratch" "$scratch-mlflow" "$scratch-sweep.pid"

if [ "$out_of_time" = 1 ] && [ "$code" != 0 ]; then
  echo "The time is up; the job is queued again and goes on from there."
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
