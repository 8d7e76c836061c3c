#!/usr/bin/env bash
# One run by N processes on this machine: launch/local.sh N --flag=value ...
# Needs nothing but the project, and costs the memory of N processes. It is for CPUs, and for trying
# out; the GPUs or TPU cores of one machine need only one process. Ctrl-C and SIGTERM keep a
# checkpoint, and the same command goes on from it.
set -euo pipefail

if [[ ! ${1:-} =~ ^[1-9][0-9]*$ ]]; then
  echo 'usage: launch/local.sh N --flag=value ...    (flags of python -m glr_jax.train)' >&2
  exit 2
fi
count=$1
shift
port=$(python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')

pids=()
trap 'kill -TERM "${pids[@]}" 2>/dev/null' TERM INT
for ((id = 0; id < count; id++)); do
  python -m glr_jax.train "$@" --parallel.coordinator="127.0.0.1:$port" \
    --parallel.num_processes="$count" --parallel.process_id="$id" &
  pids+=("$!")
done

# The first failure is the run's; what still runs ten seconds later waits for the failed process.
code=0
while ((${#pids[@]})); do
  for id in "${!pids[@]}"; do
    kill -0 "${pids[id]}" 2>/dev/null && continue
    failure=0
    wait "${pids[id]}" || failure=$?
    unset "pids[$id]"
    if ((failure && !code)); then
      code=$failure
      deadline=$((SECONDS + 10))
    fi
  done
  if ((code && ${#pids[@]} && SECONDS > deadline)); then
    echo "launch/local.sh: a process ended with code $code; stopping the others" >&2
    kill -KILL "${pids[@]}" 2>/dev/null || true
  fi
  sleep 0.2
done
exit "$code"
