#!/usr/bin/env bash
# One run with N processes on this machine: launch/local.sh N --flag=value ...
# Needs only the project and costs the memory of N processes. It is meant for CPUs and for trying
# things out; one process drives all GPUs or TPU cores of a machine. Ctrl-C and SIGTERM save a
# checkpoint, and the same command resumes from it.
# PYTHON=.venv/bin/python launch/local.sh ... chooses the interpreter. Without PYTHON it is python,
# or python3 if there is no python.
set -euo pipefail

if [[ ! ${1:-} =~ ^[1-9][0-9]*$ ]]; then
  echo 'usage: launch/local.sh N --flag=value ...    (flags of python -m glr_jax.train)' >&2
  exit 2
fi
count=$1
shift
python=${PYTHON:-$(command -v python || command -v python3)} || {
  echo 'launch/local.sh: no python found; set PYTHON=/path/to/python' >&2
  exit 2
}
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')

pids=()
trap 'kill -TERM "${pids[@]}" 2>/dev/null' TERM INT HUP USR1
for ((id = 0; id < count; id++)); do
  "$python" -m glr_jax.train "$@" --parallel.coordinator="127.0.0.1:$port" \
    --parallel.num_processes="$count" --parallel.process_id="$id" &
  pids+=("$!")
done

# The exit code is that of the first process to fail. The others then end by themselves and say why;
# a process that still runs twenty seconds later is waiting for the failed one.
code=0
while ((${#pids[@]})); do
  for id in "${!pids[@]}"; do
    kill -0 "${pids[id]}" 2>/dev/null && continue
    failure=0
    wait "${pids[id]}" || failure=$?
    unset "pids[$id]"
    if ((failure && !code)); then
      code=$failure
      deadline=$((SECONDS + 20))
    fi
  done
  if ((code && ${#pids[@]} && SECONDS > deadline)); then
    echo "launch/local.sh: a process ended with code $code; stopping the others" >&2
    kill -KILL "${pids[@]}" 2>/dev/null || true
  fi
  sleep 0.2
done
exit "$code"
