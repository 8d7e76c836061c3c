"""What the commands of the studies share: checks of flags, the start, the hardware."""

import os
import platform
from typing import Any

import jax

from experiments.tables import counted
from glr_jax import cli
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.devices import parallel, startup


def start(study: Any, taken: dict[str, str], cpu_devices: int) -> Dataset:
    """Checks the flags of a study that trains, sets up JAX and opens the dataset.

    Args:
      study: its parsed flags, with `out` and `data.dir`.
      taken: {flag that the study sets itself: flag to give instead}.
      cpu_devices: how many devices to simulate on the CPU; 0: none.

    Raises:
      UsageError: a required flag is missing, or a flag in `taken` was given.
      UserError: the dataset cannot be opened.
    """
    cli.need(study, 'data.dir', 'out')
    cli.refuse(study, taken)
    parallel.set_cpu_devices(cpu_devices)
    startup.enable_compilation_cache()
    return open_dataset(study.data.dir)


def hardware() -> dict[str, Any]:
    """The machine that figures were measured on: devices, CPU cores, load, versions."""
    from data_prep.runners import usable_cores  # imports librosa, which training does not call

    devices = jax.devices()
    return {
        'device': devices[0].device_kind,
        'devices': len(devices),
        'cores': usable_cores(),
        'load': os.getloadavg()[0],
        'jax': jax.__version__,
        'python': platform.python_version(),
    }


def in_words(machine: dict[str, Any]) -> str:
    """`hardware` as text: `32 simulated CPU devices, 2 CPU cores, jax 0.10.2, Python 3.11.7`."""
    kind, count = machine['device'], machine['devices']
    if kind == 'cpu':
        kind = 'simulated CPU' if count > 1 else 'CPU'
    return (
        f'{counted(count, f"{kind} device")}, {counted(machine["cores"], "CPU core")}, '
        f'jax {machine["jax"]}, Python {machine["python"]}'
    )
