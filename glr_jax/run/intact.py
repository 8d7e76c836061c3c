"""Checkpoints as files: which ones a workdir has, and whether each is as it was saved.

Orbax writes checkpoints; this module reads them, one process by itself, so that damage to one is
found and named without involving the others. Beside the arrays a checkpoint has `meta`: a JSON
object with the checksum of every array, and a checksum of its own.
"""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import google_crc32c
import jax
import numpy as np

from glr_jax import json_files
from glr_jax.errors import UserError

Tree = TypeVar('Tree')


class DamagedError(UserError):
    """A checkpoint is not as it was saved; the message names the item and the fault."""


def steps(folder: str) -> list[int]:
    """The steps of all finished checkpoints in a folder, newest first.

    Checkpoints that were being written when their process was killed have other names.
    """
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as found:
        names = [x.name for x in found if re.fullmatch('0|[1-9][0-9]{0,18}', x.name) and x.is_dir()]
    return sorted(map(int, names), reverse=True)


def read_meta(folder: str, step: int) -> dict[str, Any]:
    """The `meta` of a checkpoint, after its checksum is verified; older ones have none.

    Raises:
      DamagedError: it is missing, not JSON, or differs from its checksum.
    """
    values = _read_json(os.path.join(folder, str(step), 'meta', 'metadata'), 'meta')
    if 'checksums' in values:
        if json_files.CHECKSUM not in values or not json_files.is_intact(values):
            raise DamagedError('meta differs from its checksum')
        loss = values.get('validation_loss')
        if loss != validation_loss(folder, step):
            raise DamagedError('metrics differ from those in meta')
    return values


def validation_loss(folder: str, step: int) -> float | None:
    """The validation loss of a checkpoint; None if it was saved between two validations.

    Raises:
      DamagedError: the file of the scores is damaged.
    """
    path = os.path.join(folder, str(step), 'metrics', 'metrics')
    if not os.path.exists(path):
        return None
    loss = _read_json(path, 'metrics').get('loss')
    if not isinstance(loss, float | int):
        raise DamagedError('metrics have no loss')
    return loss


def read_arrays(folder: str, step: int, item: str, like: Tree, meta: dict[str, Any]) -> Tree:
    """The arrays of an item of a checkpoint, in the memory of this process.

    Args:
      folder: of the checkpoints.
      step: of the checkpoint.
      item: `model` or `training`.
      like: a tree of the same structure, shapes and types.
      meta: of the checkpoint, for its checksums; without any, arrays are taken as they are.

    Raises:
      DamagedError: files are missing or damaged.
      UserError: the checkpoint was saved with another structure, by another version perhaps.
    """
    import orbax.checkpoint as ocp  # a start is sooner without it, see `manager`

    expected = {k: v for k, v in meta.get('checksums', {}).items() if k.split('/')[0] == item}
    blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    stored, wanted = (
        {k: v.rpartition(' ')[0] for k, v in each.items()}
        for each in (expected, checksums({item: blank}))
    )
    if expected and stored != wanted:
        raise UserError(
            f'{os.path.join(folder, str(step))} was saved with arrays of other names or shapes; '
            'use the version of glr_jax and the dataset that it was trained with'
        )
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=f'{item}-{step}-{jax.process_index()}',
    )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    path = os.path.abspath(os.path.join(folder, str(step), item))
    with _faults_named(item), ocp.Checkpointer(handler, multiprocessing_options=alone) as reader:
        found = reader.restore(path, args=ocp.args.StandardRestore(blank))
        same = jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, found, blank)
    if not jax.tree.all(same):
        raise DamagedError(f'{item} has arrays of other shapes')
    if expected:
        now = checksums({item: found})
        wrong = sorted(name for name in expected if now.get(name) != expected[name])
        if wrong:
            raise DamagedError(f'{wrong[0]} differs from its checksum')
    return found


def checksums(items: dict[str, Any]) -> dict[str, str]:
    """The type, the shape and the CRC-32C of every array: {'model/...': 'float32[2,3] 1a2b3c4d'}.

    Args:
      items: {item: tree of arrays}; arrays of JAX are replicated.
    """
    found = {}
    for item, tree in items.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            local = leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf
            array = np.ascontiguousarray(np.asarray(local))
            shape = ','.join(map(str, leaf.shape))
            crc = google_crc32c.value(array.tobytes())
            name = f'{item}/{jax.tree_util.keystr(path, simple=True, separator="/")}'
            found[name] = f'{array.dtype}[{shape}] {crc:08x}'
    return found


def set_aside(folder: str, step: int) -> str:
    """Moves a damaged checkpoint to `damaged/` in the workdir; returns its new path."""
    parent = os.path.join(os.path.dirname(folder), 'damaged')
    os.makedirs(parent, exist_ok=True)
    path, count = os.path.join(parent, str(step)), 1
    while os.path.exists(path):
        count += 1
        path = os.path.join(parent, f'{step}-{count}')
    os.rename(os.path.join(folder, str(step)), path)
    return path


def first_intact(
    folder: str, candidates: list[int], read: Callable[[int], Tree]
) -> tuple[Tree, int, dict[int, str]]:
    """Reads the first checkpoint that is not damaged.

    Args:
      folder: of the checkpoints.
      candidates: their steps, in the order of preference; at least one.
      read: reads a checkpoint; raises `DamagedError` if it cannot.

    Returns:
      What `read` returned, the step, and {step: fault} of the damaged ones before it.

    Raises:
      UserError: all are damaged.
    """
    faults: dict[int, str] = {}
    for step in candidates:
        try:
            return read(step), step, faults
        except DamagedError as error:
            if remains(folder, step):
                faults[step] = str(error)
    raise UserError(none_left(folder, faults))


def remains(folder: str, step: int) -> bool:
    """Whether a checkpoint is still there after it could not be read: runs remove old ones."""
    time.sleep(0.2)
    return os.path.isdir(os.path.join(folder, str(step)))


def none_left(folder: str, faults: dict[int, str]) -> str:
    """The message for a run without any intact checkpoint."""
    named = '; '.join(f'{step}: {fault}' for step, fault in faults.items())
    return (
        f'{folder} has no intact checkpoint ({named}); copy the folder from a backup, or train '
        'into a new --workdir'
    )


@contextlib.contextmanager
def failures_named(folder: str) -> Iterator[None]:
    """Turns what Orbax and TensorStore raise while they write into one line."""
    try:
        yield
    except Exception as error:  # of many kinds, from several libraries
        reason = (str(error) or type(error).__name__).splitlines()[0]
        full = 'No space left' in str(error) or 'quota' in str(error).lower()
        remedy = 'free some space' if full else 'make sure that it can be written'
        reason = 'the disk is full' if full else reason[:200]
        newest, rest, again = 'the newest', 'the earlier ones are intact', ' to resume'
        if not steps(folder):
            newest, rest, again = 'the first', 'no checkpoint has been saved yet', ''
        raise UserError(
            f'{folder}: {newest} checkpoint could not be written: {reason}; {rest}: {remedy} and '
            f'run the same command again{again}'
        ) from None


@contextlib.contextmanager
def _faults_named(item: str) -> Iterator[None]:
    """Turns what Orbax and TensorStore raise for damaged files into a `DamagedError`."""
    try:
        yield
    except PermissionError as error:
        raise UserError(f'{error.filename or item}: {error.strerror}') from None
    except MemoryError:
        raise
    except Exception as error:  # of many kinds, from several libraries
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DamagedError(f'{item} cannot be read: {reason[:200]}') from None


def _read_json(path: str, name: str) -> dict[str, Any]:
    try:
        return json_files.parse_object(json_files.read_bytes(path), name, '')
    except PermissionError as error:
        raise UserError(f'{path}: {error.strerror}') from None
    except OSError:
        raise DamagedError(f'{name} is missing') from None
    except UserError as error:
        raise DamagedError(str(error).removesuffix('; ')) from None
