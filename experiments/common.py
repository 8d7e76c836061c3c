"""What the commands of the studies share: checks of flags, the hardware.

They import this before they check their flags, so JAX is imported where it is used.
"""

import os
import platform
from typing import Any

from glr_jax import storage
from glr_jax.errors import FieldError, UsageError, UserError
from glr_jax.fields import option, text_of
from glr_jax.text import counted
from glr_jax.workers import usable_cores

N_MELS = 128  # mel bands where no dataset gives their number


def ignored(default: Any) -> Any:
    """A flag of `glr_jax.train` that a study accepts but replaces, for the flagfile of a run."""
    return option(default, 'ignored, so that the flagfile of a run can be used')


def check_folder(out: str) -> None:
    """Checks, before a study starts, that its folder can be written.

    Args:
      out: the value of `--out`; the folder need not exist.

    Raises:
      UserError: `out` is an address, or it or a folder above it is a file or is read-only.
    """
    storage.check_local(out, '--out')
    _check_can_create(os.path.abspath(out), out)


def make_folder_of(out: str) -> None:
    """Creates the folder of a JSON file before anything is measured.

    Args:
      out: the value of `--out`; '' = nothing will be written.

    Raises:
      UserError: `out` is an address or a folder, or cannot be written.
    """
    if not out:
        return
    if storage.is_remote(out):
        raise UsageError(f'--out={out} must be a file on this machine, not an address')
    if os.path.isdir(out):
        raise UsageError(f'--out={out} is a folder; give the name of a JSON file')
    folder = os.path.dirname(os.path.abspath(out))
    _check_can_create(folder, out)
    os.makedirs(folder, exist_ok=True)
    if os.path.exists(out) and not os.access(out, os.W_OK):
        raise UserError(f'--out={out}: no permission to write to it')


def check_distinct(config: Any, *names: str) -> None:
    """Checks that lists of trials have no value twice, which would make a false spread.

    Args:
      config: the flags of a study.
      names: its fields that are such lists.

    Raises:
      FieldError: a value occurs twice.
    """
    for name in names:
        values = getattr(config, name)
        for place, value in enumerate(values):
            if value in values[:place]:
                raise FieldError(name, text_of(values), f'repeats {value}')


def hardware() -> dict[str, Any]:
    """The machine that figures were measured on: devices, CPU cores, load, versions."""
    import jax

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


def _check_can_create(folder: str, out: str) -> None:
    """Raises `UserError`, naming `--out`, unless the folder exists or can be created."""
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        raise UsageError(f'--out={out}: {folder} is not a folder')
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f'--out={out}: no permission to write to {folder}')
