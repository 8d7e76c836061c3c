"""One per-device program, run on every device.

A program is written for one device's share of a batch and talks to the others over the axis
`data`. `shard_map` or `pmap` runs it; both give equal results.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import jax
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from glr_jax.cli import UserError

Mapper = Literal['shard_map', 'pmap']
Tree = TypeVar('Tree')
AXIS = 'data'


def set_cpu_devices(count: int) -> None:
    """Makes the CPU look like so many devices; before JAX has been used."""
    if count:
        jax.config.update('jax_platforms', 'cpu')
        jax.config.update('jax_num_cpu_devices', count)


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """All devices, or those given, along the axis `data`."""
    # A process's devices side by side, as pmap wants them: jax.make_mesh would follow the topology.
    order = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.asarray(order), (AXIS,), axis_types=(AxisType.Auto,))


def share_of_batch(batch_size: int, mesh: Mesh, accumulate: int = 1) -> slice:
    """The cases of every batch that this process reads.

    Raises:
      UserError: the batch cannot be shared out evenly to devices, and by each to micro-batches.
    """
    parts = mesh.size * accumulate
    if batch_size % parts:
        micro = f', {accumulate} micro-batches each (--train.accumulate)' if accumulate > 1 else ''
        raise UserError(
            f'--train.batch_size={batch_size} cannot be shared by {mesh.size} devices{micro}; '
            f'give a multiple of {parts}'
        )
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """The same values on every device."""
    # By way of NumPy: of an array of its own, a process with one device makes one that Orbax cannot
    # save (jax 0.10.2).
    return jax.device_put(jax.tree.map(np.asarray, tree), NamedSharding(mesh, PartitionSpec()))


def on_local(tree: Tree) -> Tree:
    """Replicated values as seen by this process's devices alone."""
    return _seen_by(tree, make_mesh(jax.local_devices()))


def _seen_by(tree: Tree, mesh: Mesh) -> Tree:
    sharding = NamedSharding(mesh, PartitionSpec())

    def see(x: jax.Array) -> jax.Array:
        shards = [jax.device_put(x.addressable_data(0), device) for device in mesh.local_devices]
        return jax.make_array_from_single_device_arrays(x.shape, sharding, shards)

    return jax.tree.map(see, tree)


def mean_over_devices(tree: Tree) -> Tree:
    """The mean of each leaf over the axis `data`, all leaves in one all-reduce."""
    flat, restore = ravel_pytree(tree)
    return restore(lax.pmean(flat, AXIS))


def on_every_device(
    program: Callable[..., Any],
    mesh: Mesh,
    *,
    mapper: Mapper = 'shard_map',
    result: Literal['replicated', 'sharded'],
) -> Callable[..., Any]:
    """Makes a function of (state, this process's share of a batch, *held) for all devices.

    Args:
      program: (state, one device's share, *held) -> result. Gradients in it are of the device's
        own share: `mean_over_devices` makes them the batch's.
      mesh: the devices.
      mapper: what runs it.
      result: the same on every device, or one row a case like the batch. In the first case it is
        the next state: it takes the memory of the one that was given, which is gone then.
    """
    mapped = (_pmapped if mapper == 'pmap' else shard_mapped)(program, mesh, result)
    return lambda state, batch, *held: mapped(state, share(batch, mesh, mapper), *held)


def share(batch: Tree, mesh: Mesh, mapper: Mapper = 'shard_map') -> Tree:
    """This process's share of a batch, on its way to the process's devices.

    What is there already is left as it is, so that a batch may be sent ahead of its use.
    """
    local = make_mesh(mesh.local_devices)

    def send(x: Any) -> jax.Array:
        if isinstance(x, jax.Array):
            return x
        x = np.asarray(x)
        if mapper == 'pmap':
            x = x.reshape(local.size, -1, *x.shape[1:])
            return jax.device_put(x, NamedSharding(local, PartitionSpec(AXIS)))
        sharding = NamedSharding(mesh, PartitionSpec(AXIS))
        return jax.make_array_from_process_local_data(sharding, x)

    return jax.tree.map(send, batch)


def shard_mapped(
    program: Callable[..., Any], mesh: Mesh, result: Literal['replicated', 'sharded']
) -> jax.stages.Wrapped:
    """The compiled function inside `on_every_device`, of arrays that are placed already."""

    def run(state: Any, batch: Any, *held: Any) -> Any:
        # check_vma=True would sum the gradient of replicated parameters over devices by itself, and
        # mean_over_devices would then give it as many times too large as there are devices.
        return jax.shard_map(
            program,
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS), *(PartitionSpec() for _ in held)),
            out_specs=PartitionSpec() if result == 'replicated' else PartitionSpec(AXIS),
            check_vma=False,
        )(state, batch, *held)

    run.__name__ = program.__name__  # in profiles
    return jax.jit(run, donate_argnums=0 if result == 'replicated' else ())


def _pmapped(program: Callable, mesh: Mesh, result: str) -> Callable[..., Any]:
    devices = list(mesh.devices.flat)
    mapped = jax.pmap(
        lambda state, batch, held: program(state, batch, *held),
        AXIS,
        in_axes=(None, 0, None),
        out_axes=None if result == 'replicated' else 0,
        devices=devices,
        donate_argnums=0 if result == 'replicated' else (),
    )

    def run(state: Any, batch: Any, *held: Any) -> Any:
        out = mapped(state, batch, held)
        if result == 'replicated':  # of several processes, pmap gives each one its own devices'
            return out if len(mesh.local_devices) == mesh.size else _seen_by(out, mesh)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out)

    return run
