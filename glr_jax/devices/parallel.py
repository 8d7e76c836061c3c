"""One per-device program, run on every device.

A program is written for one device's part of a batch and communicates over the axis `data`.
`shard_map` or `pmap` runs it; both give equal results.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import jax
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from glr_jax import platforms
from glr_jax.config import Mapper
from glr_jax.errors import UserError

Tree = TypeVar('Tree')
AXIS = 'data'


def set_cpu_devices(count: int) -> None:
    """Simulates `count` CPU devices (0: no change); to be called before JAX is used."""
    if count:
        jax.config.update('jax_platforms', 'cpu')
        jax.config.update('jax_num_cpu_devices', count)


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """All devices, or those given, along the axis `data`."""
    # Each process's devices are neighbours, as pmap requires; jax.make_mesh follows the topology.
    order = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.asarray(order), (AXIS,), axis_types=(AxisType.Auto,))


def process_slice(batch_size: int, mesh: Mesh, accumulate: int = 1) -> slice:
    """The cases of every batch that this process reads.

    Raises:
      UserError: the batch cannot be divided evenly among devices and micro-batches.
    """
    parts = mesh.size * accumulate
    if batch_size % parts:
        micro = f' with {accumulate} micro-batches each (--train.accumulate)'
        raise UserError(
            f'--train.batch_size={batch_size} cannot be divided among {mesh.size} '
            f'device{"s" if mesh.size > 1 else ""}'
            f'{micro if accumulate > 1 else ""}; give a multiple of {parts}'
        )
    size = batch_size // jax.process_count()
    return slice(jax.process_index() * size, (jax.process_index() + 1) * size)


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """The same values on every device."""
    # Through NumPy: from an array of its own, a process with one device makes one that Orbax cannot
    # save (jax 0.10.2).
    return jax.device_put(jax.tree.map(np.asarray, tree), NamedSharding(mesh, PartitionSpec()))


def on_local(tree: Tree) -> Tree:
    """Replicated values as arrays of this process's devices only."""
    return _seen_by(tree, make_mesh(jax.local_devices()))


def _seen_by(tree: Tree, mesh: Mesh) -> Tree:
    sharding = NamedSharding(mesh, PartitionSpec())

    def see(x: jax.Array) -> jax.Array:
        shards = [jax.device_put(x.addressable_data(0), device) for device in mesh.local_devices]
        return jax.make_array_from_single_device_arrays(x.shape, sharding, shards)

    return jax.tree.map(see, tree)


def mean_over_devices(tree: Tree) -> Tree:
    """The mean of each leaf over the axis `data`, with one all-reduce for all leaves."""
    flat, restore = ravel_pytree(tree)
    return restore(lax.pmean(flat, AXIS))


def shard_batch(batch: Tree, mesh: Mesh, mapper: Mapper = 'shard_map') -> Tree:
    """Starts sending this process's part of a batch to its devices, divided among them."""
    local = make_mesh(mesh.local_devices)

    def send(x: Any) -> jax.Array:
        x = np.asarray(x)
        if mapper == 'pmap':
            x = x.reshape(local.size, -1, *x.shape[1:])
            return jax.device_put(x, NamedSharding(local, PartitionSpec(AXIS)))
        sharding = NamedSharding(mesh, PartitionSpec(AXIS))
        return jax.make_array_from_process_local_data(sharding, x)

    return jax.tree.map(send, batch)


def on_every_device(
    program: Callable[..., Any],
    mesh: Mesh,
    *,
    mapper: Mapper = 'shard_map',
    result: Literal['replicated', 'sharded'],
) -> Callable[..., Any]:
    """Compiles a per-device program for all devices of a mesh.

    Args:
      program: (state, one device's part of a batch, *held) -> result. Gradients in it are those of
        the device's own part: `mean_over_devices` makes them the batch's.
      mesh: the devices.
      mapper: what runs it.
      result: `replicated`, the next state, equal on every device; or `sharded`, one row per case
        of the batch. With `replicated`, the old state's buffers are donated: do not use it again.

    Returns:
      A function of (replicated state, batch from `shard_batch`, *held).
    """
    if mapper == 'pmap':
        return _pmapped(program, mesh, result)
    return shard_mapped(program, mesh, result)


def shard_mapped(
    program: Callable[..., Any], mesh: Mesh, result: Literal['replicated', 'sharded']
) -> jax.stages.Wrapped:
    """`on_every_device` by `shard_map`, as a function that can be lowered and compiled."""
    program = platforms.traced_for(mesh.devices, program)

    def on_mesh(state: Any, batch: Any, *held: Any) -> Any:
        # With check_vma=True, the gradient of replicated parameters would already be summed over
        # the devices, and mean_over_devices would return a multiple of the mean.
        return jax.shard_map(
            program,
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS), *(PartitionSpec() for _ in held)),
            out_specs=PartitionSpec() if result == 'replicated' else PartitionSpec(AXIS),
            check_vma=False,
        )(state, batch, *held)

    on_mesh.__name__ = program.__name__  # shown in profiles
    return jax.jit(on_mesh, donate_argnums=0 if result == 'replicated' else ())


def _pmapped(program: Callable, mesh: Mesh, result: str) -> Callable[..., Any]:
    program = platforms.traced_for(mesh.devices, program)
    mapped = jax.pmap(
        lambda state, batch, held: program(state, batch, *held),
        AXIS,
        in_axes=(None, 0, None),
        out_axes=None if result == 'replicated' else 0,
        devices=list(mesh.devices.flat),
        donate_argnums=0 if result == 'replicated' else (),
    )

    def on_devices(state: Any, batch: Any, *held: Any) -> Any:
        out = mapped(state, batch, held)
        if result == 'replicated':  # pmap gives each process an array of its own devices
            return out if len(mesh.local_devices) == mesh.size else _seen_by(out, mesh)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out)

    return on_devices
