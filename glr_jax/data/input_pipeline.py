"""How batches come to the devices: cut there, from clips that they hold, or read and sent ahead.

Either way they are the same batches: whole numbers to the bit, float32 to rounding.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, Int, Num, UInt16

from glr_jax.config import DataConfig
from glr_jax.data import batches
from glr_jax.data.batches import Batch, BatchPlan
from glr_jax.data.dataset import Dataset
from glr_jax.devices import processes
from glr_jax.errors import UserError


class InputPipeline(NamedTuple):
    """From the plan of a batch to the batch on a device.

    Attributes:
      payload: of a plan, what is sent to the devices; on the host.
      assemble: (payload, *held) -> the batch; on a device.
      held: what every device holds all the time.
      steps_per_dispatch: how many suit it.
    """

    payload: Callable[[BatchPlan], Any]
    assemble: Callable[..., Batch]
    held: tuple[Array, ...] = ()
    steps_per_dispatch: int = 1


class Crops(NamedTuple):
    """Where a batch is cut from clips that lie end to end.

    Attributes:
      first: the first frame of each case.
      other: that of the clip which is mixed into it.
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
    """Whether the training clips are to stay on the devices, all of them on each.

    `auto` keeps them where they take no more than half of what is free: the rest is for the train
    step. Nothing is read for the answer.

    Raises:
      UserError: they are wanted there, but there is no room.
    """
    if config.resident == 'off':
        return False
    needed = int(_rows(dataset, clips, config.frames).sum()) * _row_bytes(dataset)
    free = int(processes.gather(np.asarray(free_bytes())).min())  # all have to answer the same
    if config.resident == 'auto':
        return needed <= free // 2
    if needed > free:
        raise UserError(
            f'--data.resident=on: the training clips take {needed >> 20:,} MiB, and a device has '
            f'{free >> 20:,} MiB free; --data.resident=off reads them while it trains'
        )
    return True


def streamed(dataset: Dataset, frames: int) -> InputPipeline:
    """Batches are read from the dataset, and sent."""
    return InputPipeline(lambda plan: batches.read(dataset, plan, frames), lambda batch: batch)


def resident(
    dataset: Dataset, clips: Int[np.ndarray, ' clips'], frames: int, mesh: Mesh
) -> InputPipeline:
    """Clips are sent once, as they are stored; of a batch, no more than where to cut it."""
    rows = np.empty((_rows(dataset, clips, frames).sum(), dataset.n_mels), dataset.mel_dtype)
    begins, lengths = np.zeros((2, len(dataset)), np.int32)
    read = lambda clip: batches.lengthen(dataset.mel(clip), frames)
    end = 0
    for clip, mel in zip(clips, batches.prefetch(read, clips), strict=True):
        begins[clip], lengths[clip] = end, len(mel)
        rows[end : end + len(mel)] = mel
        end += len(mel)
    everywhere = NamedSharding(mesh, PartitionSpec())
    held = jax.make_array_from_process_local_data(everywhere, rows[:end], (end, dataset.n_mels))

    def crops(plan: BatchPlan) -> Crops:
        first, other = (
            (begins[clip] + batches.first_frame(start, lengths[clip], frames)).astype(np.int32)
            for clip, start in ((plan.clip, plan.start), (plan.other, plan.other_start))
        )
        return Crops(first, other, plan.weight, batches.targets(dataset, plan), plan.place)

    def batch(crops: Crops, rows: Num[Array, 'rows mels']) -> Batch:
        cut = jax.vmap(lambda first: lax.dynamic_slice_in_dim(rows, first, frames))
        mel = batches.mix(cut(crops.first), cut(crops.other), crops.weight[:, None, None])
        return Batch(mel, crops.target, crops.place)

    # A CPU takes so long over a step that SIGTERM should not wait for more.
    on_cpu = mesh.devices.flat[0].platform == 'cpu'
    return InputPipeline(crops, batch, (held,), steps_per_dispatch=1 if on_cpu else 16)


def free_bytes() -> int:
    """What the fullest of this process's devices has left.

    A CPU is taken for having half of the machine's memory, shared by all devices of the run: they
    may all be simulated on this machine.
    """
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return min(of_one['bytes_limit'] - of_one['bytes_in_use'] for of_one in stats)
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2 // jax.device_count()


def _rows(
    dataset: Dataset, clips: Int[np.ndarray, ' clips'], frames: int
) -> Int[np.ndarray, ' clips']:
    """How many frames each clip has at most, once it is long enough for a crop."""
    return np.maximum(dataset.stored_bytes(clips) // _row_bytes(dataset), frames)


def _row_bytes(dataset: Dataset) -> int:
    return dataset.n_mels * dataset.mel_dtype.itemsize
