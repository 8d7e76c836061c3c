"""How batches reach the devices: cut there from clips in device memory, or read and sent.

Both give the same batches: equal to the bit in uint8, and up to rounding in float32.
"""

import collections
import concurrent.futures
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, Int, Num, UInt16

from glr_jax.config import DataConfig
from glr_jax.data import batches
from glr_jax.data.batches import Batch, BatchPlan
from glr_jax.data.dataset import Dataset
from glr_jax.data.segments import first_frame, lengthen
from glr_jax.devices import processes
from glr_jax.errors import UserError

Item = TypeVar('Item')
Task = TypeVar('Task')
Tree = TypeVar('Tree')


class InputPipeline(NamedTuple):
    """From the plan of a batch to the batch on the devices.

    Attributes:
      payload: a plan -> what the host sends to the devices for it.
      assemble: (payload, *held) -> the batch; runs on each device, on its part of the payload.
      held: arrays that stay on every device during training.
      steps_per_dispatch: how many to use unless the user gives a number.
    """

    payload: Callable[[BatchPlan], Any]
    assemble: Callable[..., Batch]
    held: tuple[Array, ...] = ()
    steps_per_dispatch: int = 1


class Crops(NamedTuple):
    """The payload for resident clips: where to cut a batch from the rows on the devices.

    Attributes:
      first: the first row of each case.
      other: the first row of the clip that is mixed into it.
      weight: as in `BatchPlan`.
      target: as in `Batch`.
      place: as in `BatchPlan`.
    """

    first: Int[np.ndarray, ' batch']
    other: Int[np.ndarray, ' batch']
    weight: UInt16[np.ndarray, ' batch']
    target: Float[np.ndarray, 'batch labels']
    place: Int[np.ndarray, ' batch']


def fits(config: DataConfig, dataset: Dataset, clips: Int[np.ndarray, ' clips']) -> bool:
    """Whether to keep the training clips in device memory, all of them on every device.

    `auto` keeps them if they take at most half of the free memory; the train step needs the rest.
    Reads no clips.

    Raises:
      UserError: --data.resident=on, but the clips do not fit.
    """
    if config.resident == 'off':
        return False
    needed = int(_rows(dataset, clips, config.frames).sum()) * _row_bytes(dataset)
    # All processes must decide the same.
    free = int(processes.gather(np.asarray(free_bytes())).min())
    if config.resident == 'auto':
        return needed <= free // 2
    if needed > free:
        raise UserError(
            f'--data.resident=on: the training clips need {needed >> 20:,} MiB, but only '
            f'{free >> 20:,} MiB are free on a device; use --data.resident=off to read them '
            'during training'
        )
    return True


def streamed(dataset: Dataset, frames: int) -> InputPipeline:
    """Reads each batch from the dataset and sends it to the devices."""
    return InputPipeline(lambda plan: batches.read(dataset, plan, frames), lambda batch: batch)


def resident(
    dataset: Dataset, clips: Int[np.ndarray, ' clips'], frames: int, mesh: Mesh
) -> InputPipeline:
    """Sends all clips once, as they are stored; the payload only says where to cut each batch."""
    rows = np.empty((_rows(dataset, clips, frames).sum(), dataset.n_mels), dataset.mel_dtype)
    begins, lengths = np.zeros((2, len(dataset)), np.int32)
    read = lambda clip: lengthen(dataset.mel(clip), frames)
    end = 0
    for clip, mel in zip(clips, prefetch(read, clips), strict=True):
        begins[clip], lengths[clip] = end, len(mel)
        rows[end : end + len(mel)] = mel
        end += len(mel)
    everywhere = NamedSharding(mesh, PartitionSpec())
    held = jax.make_array_from_process_local_data(everywhere, rows[:end], (end, dataset.n_mels))

    def crops(plan: BatchPlan) -> Crops:
        first, other = (
            (begins[clip] + first_frame(start, lengths[clip], frames)).astype(np.int32)
            for clip, start in ((plan.clip, plan.start), (plan.other, plan.other_start))
        )
        return Crops(first, other, plan.weight, batches.targets(dataset, plan), plan.place)

    def batch(crops: Crops, rows: Num[Array, 'rows mels']) -> Batch:
        cut = jax.vmap(lambda first: lax.dynamic_slice_in_dim(rows, first, frames))
        mel = batches.mix(cut(crops.first), cut(crops.other), crops.weight[:, None, None])
        return Batch(mel, crops.target, crops.place)

    # A step on a CPU takes so long that SIGTERM should not have to wait for several.
    on_cpu = mesh.devices.flat[0].platform == 'cpu'
    return InputPipeline(crops, batch, (held,), steps_per_dispatch=1 if on_cpu else 16)


def stack(items: Sequence[Tree]) -> Tree:
    """Joins the payloads of several steps: [batch, ...] arrays become [batch, steps, ...]."""
    if len(items) == 1:  # without a copy
        return jax.tree.map(lambda array: array[:, None], items[0])
    return jax.tree.map(lambda *arrays: np.stack(arrays, 1), *items)


def prefetch(make: Callable[[Task], Item], tasks: Iterable[Task], ahead: int = 4) -> Iterator[Item]:
    """Yields `make(task)` for each task in order; a thread works up to `ahead` tasks in advance.

    There is one thread because two are half as fast: they take Python's lock from each other at
    every read.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting: collections.deque[concurrent.futures.Future[Item]] = collections.deque()
        todo = iter(tasks)
        try:
            for task in itertools.islice(todo, ahead):
                waiting.append(pool.submit(make, task))
            while waiting:
                item = waiting.popleft().result()
                for task in itertools.islice(todo, 1):
                    waiting.append(pool.submit(make, task))
                yield item
        finally:
            for future in waiting:
                future.cancel()


def free_bytes() -> int:
    """The free memory of this process's fullest device.

    On a CPU, half of the machine's memory counts as free, shared by all devices of the run: they
    may all be simulated on this machine.
    """
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return min(of_one['bytes_limit'] - of_one['bytes_in_use'] for of_one in stats)
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2 // jax.device_count()


def _rows(
    dataset: Dataset, clips: Int[np.ndarray, ' clips'], frames: int
) -> Int[np.ndarray, ' clips']:
    """An upper bound on the frames of each clip, once it is long enough for a crop."""
    return np.maximum(dataset.stored_bytes(clips) // _row_bytes(dataset), frames)


def _row_bytes(dataset: Dataset) -> int:
    return dataset.n_mels * dataset.mel_dtype.itemsize
