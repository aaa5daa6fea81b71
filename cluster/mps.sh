#!/usr/bin/env bash
# CUDA MPS on this machine: trials that share a GPU compute at the same time instead of in turns.
#
#   TFSER_MPS=1 bash cluster/mps.sh start     before `ray start`, as the same user; does nothing without TFSER_MPS=1
#   bash cluster/mps.sh status | stop
#
# One daemon serves every GPU of the machine. Processes find it by the folder CUDA_MPS_PIPE_DIRECTORY (default
# /tmp/nvidia-mps), which must be the same for `ray start`. A fault of one trial can end the others on its GPU; they are
# trained again. The exit code is 0 if there is nothing to do, and 1, with the reason, if MPS is wanted but impossible.
set -euo pipefail

export CUDA_MPS_PIPE_DIRECTORY="${CUDA_MPS_PIPE_DIRECTORY:-/tmp/nvidia-mps}"
export CUDA_MPS_LOG_DIRECTORY="${CUDA_MPS_LOG_DIRECTORY:-$CUDA_MPS_PIPE_DIRECTORY-log}"
# With this variable the daemon would renumber the GPUs, and Ray's numbers would be wrong.
unset CUDA_VISIBLE_DEVICES

runs() { echo get_server_list | nvidia-cuda-mps-control >/dev/null 2>&1; }

case "${1:-}" in
  start)
    if [ "${TFSER_MPS:-0}" != 1 ]; then exit 0; fi
    if ! command -v nvidia-cuda-mps-control >/dev/null; then
      echo "mps.sh: no nvidia-cuda-mps-control here; it comes with NVIDIA's driver" >&2
      echo "(into a container with NVIDIA_DRIVER_CAPABILITIES=compute,utility)" >&2
      exit 1
    fi
    if runs; then
      echo "MPS runs already ($CUDA_MPS_PIPE_DIRECTORY)"
      exit 0
    fi
    mkdir -p "$CUDA_MPS_PIPE_DIRECTORY" "$CUDA_MPS_LOG_DIRECTORY"
    if ! nvidia-cuda-mps-control -d </dev/null >/dev/null 2>&1; then
      echo "mps.sh: the daemon did not start; see $CUDA_MPS_LOG_DIRECTORY/control.log" >&2
      exit 1
    fi
    echo "MPS runs ($CUDA_MPS_PIPE_DIRECTORY)"
    ;;
  status)
    if command -v nvidia-cuda-mps-control >/dev/null && runs; then
      echo "MPS runs ($CUDA_MPS_PIPE_DIRECTORY)"
    else
      echo "MPS does not run"
      exit 1
    fi
    ;;
  stop)
    if command -v nvidia-cuda-mps-control >/dev/null && runs; then
      echo quit | nvidia-cuda-mps-control
    fi
    echo "MPS does not run"
    ;;
  *)
    echo "usage: mps.sh start | status | stop" >&2
    exit 2
    ;;
esac
