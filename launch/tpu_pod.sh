#!/usr/bin/env bash
# One run on all hosts of a TPU slice:
#   launch/tpu_pod.sh [--dry-run] NAME ZONE TYPE SHARE --flag=value ...
#   launch/tpu_pod.sh my-run us-west4-a v5litepod-16 10.0.0.2:/share \
#     --data.dir=/mnt/share/data/mine --workdir=/mnt/share/runs/mine
# Needs gcloud, logged in to a project with TPU quota, and an NFS export (such as Filestore) SHARE.
# All hosts mount it at /mnt/share, where dataset and --workdir belong. Costs a spot slice of TYPE
# from the time it is granted until the run is done; then the slice is deleted. If it is preempted,
# the script requests another, and the run resumes. --dry-run only prints the commands. RUNTIME in
# the environment sets the runtime version of the TPU VM.
set -euo pipefail

dry_run=
if [[ ${1:-} == --dry-run ]]; then
  dry_run=yes
  shift
fi
if (($# < 5)); then
  echo 'usage: launch/tpu_pod.sh [--dry-run] NAME ZONE TYPE SHARE --flag=value ...' >&2
  exit 2
fi
name=$1 zone=$2 type=$3 share=$4
shift 4
runtime=${RUNTIME:-v2-alpha-tpuv5-lite}

run() {
  if [[ $dry_run ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

state() {
  gcloud compute tpus queued-resources describe "$name" --zone="$zone" --format='value(state.state)'
}

on_all_hosts() {
  run gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$1"
}

create() {
  run gcloud compute tpus queued-resources create "$name" --node-id="$name" --zone="$zone" \
    --accelerator-type="$type" --runtime-version="$runtime" --spot
}

granted() {
  local now
  until [[ $dry_run ]]; do
    now=$(state)
    case $now in
      ACTIVE) return 0 ;;
      FAILED | SUSPENDED) return 1 ;;
    esac
    sleep 30
  done
}

install() {
  run gcloud compute tpus tpu-vm scp --recurse pyproject.toml README.md LICENSE glr_jax data_prep \
    experiments "$name:" --zone="$zone" --worker=all &&
    on_all_hosts "sudo apt-get install -qq nfs-common && sudo mkdir -p /mnt/share && \
sudo mount $(printf '%q' "$share") /mnt/share && python3 -m pip install -q --user uv && \
.local/bin/uv venv -q --python 3.12 venv && .local/bin/uv pip install -q -p venv '.[tpu]'"
}

train() {
  on_all_hosts "venv/bin/python -m glr_jax.train $flags--parallel.coordinator=auto"
}

delete() {
  run gcloud compute tpus queued-resources delete "$name" --zone="$zone" --force --quiet
}

trap delete EXIT
flags=$(printf '%q ' "$@")
create
until granted && install && train; do
  # A command that failed on a slice that is still active would fail again.
  [[ $(state) == ACTIVE ]] && exit 1
  delete
  create
done
