"""Orbax checkpoints: the latest to resume from, the best to use.

A checkpoint has three items: `model` (parameters and statistics), `training` (optimizer and totals)
and `meta` (config, labels, front end, checksums), so that prediction needs nothing else. A damaged
checkpoint is named and the next one is used.
"""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from flax import nnx
from jax.sharding import Mesh

from glr_jax import json_files, signals
from glr_jax.devices import parallel, processes
from glr_jax.devices.processes import announce
from glr_jax.errors import UserError
from glr_jax.fields import from_dict, to_dict
from glr_jax.nn.model import Classifier, make_classifier, partition
from glr_jax.run import intact
from glr_jax.run.manager import Manager
from glr_jax.run.provenance import Meta
from glr_jax.run.workdir import is_finished
from glr_jax.train_step import TrainState


class NoCheckpointError(UserError):
    """A workdir has no finished checkpoint."""


class Best(NamedTuple):
    """The best checkpoint of a run, restored for use.

    Attributes:
      classifier: only its structure is used.
      state: (params, stats), the weights.
      meta: what the checkpoint records about its run.
      step: the training step after which it was saved.
      workdir: the run's folder.
    """

    classifier: Classifier
    state: tuple[Any, Any]
    meta: Meta
    step: int
    workdir: str


def open_manager(workdir: str, read_only: bool = False) -> Manager:
    """The manager of a workdir's checkpoints.

    Unless it is to be read only, checkpoints whose `meta` is damaged are set aside first, since
    Orbax reads the scores of all of them.

    Raises:
      UserError: all checkpoints are damaged, or the folder cannot be written.
    """
    folder = _folder(workdir)
    manager = Manager(folder, read_only)
    if not read_only:
        processes.on_first(lambda: _set_unreadable_aside(folder))
        processes.on_first(lambda: os.makedirs(folder, exist_ok=True))
    if processes.on_first(lambda: os.path.isdir(folder) and bool(os.listdir(folder))):
        _ = manager.orbax  # it removes what an interrupted save left
    return manager


def save(
    manager: Manager,
    state: TrainState,
    meta: Meta,
    validation: dict[str, Any] | None,
) -> None:
    """Saves a checkpoint in the background; one without validation scores never ranks as best.

    Raises:
      UserError: this checkpoint or the one before could not be written.
    """
    arrays = {'model': _model(state), 'training': _training(state)}
    values = to_dict(meta) | {
        'validation_loss': validation['loss'] if validation else None,
        'checksums': intact.checksums(arrays),
    }
    import orbax.checkpoint as ocp  # a start is sooner without it, see `manager`

    items = ocp.args.Composite(
        model=ocp.args.StandardSave(arrays['model']),
        training=ocp.args.StandardSave(arrays['training']),
        meta=ocp.args.JsonSave(json_files.sealed(values)),
    )
    signals.finish_first(manager.is_saving_in_progress)
    with intact.failures_named(manager.folder):
        manager.save(int(state.step), args=items, metrics=validation, force=True)


def finish(manager: Manager) -> None:
    """Waits until all checkpoints are written, and closes the manager.

    Raises:
      UserError: the last one could not be written.
    """
    with intact.failures_named(manager.folder):
        manager.close()


def restore_latest(manager: Manager, state: TrainState, mesh: Mesh) -> TrainState:
    """The newest intact checkpoint, on this mesh whichever mesh saved it.

    Damaged ones are named and set aside, unless the manager is read-only.

    Args:
      manager: of the workdir.
      state: of the same structure; returned if there is no checkpoint.
      mesh: where to put the arrays.

    Raises:
      UserError: no checkpoint is intact, or another version saved them.
    """
    folder = manager.folder
    candidates = intact.steps(folder)
    if not candidates:
        return state

    def read(step: int) -> tuple[Any, Any]:
        meta = intact.read_meta(folder, step)
        return (
            intact.read_arrays(folder, step, 'model', _model(state), meta),
            intact.read_arrays(folder, step, 'training', _training(state), meta),
        )

    def read_everywhere(step: int) -> tuple[Any, Any]:
        try:
            found, fault = read(step), ''
        except intact.DamagedError as error:
            found, fault = None, str(error)
        faults = list(filter(None, processes.gather_text(fault)))
        if found is None or faults:
            raise intact.DamagedError(faults[0])
        return found

    (model, training), step, faults = intact.first_intact(folder, candidates, read_everywhere)
    aside = not manager.read_only
    processes.on_first(lambda: _report_faults(folder, faults, step, aside=aside))
    if faults:
        manager.orbax.reload()
    counted = parallel.replicate(jax.numpy.int32(step), mesh)
    model, training = parallel.replicate((model, training), mesh)
    params, stats = model['params'], model['stats']
    optimizer, totals = training['optimizer'], training['totals']
    if state.average is None:
        return TrainState(counted, params, stats, optimizer, totals)
    return TrainState(counted, training['params'], stats, optimizer, totals, params)


def read_meta(manager: Manager, step: int) -> Meta:
    """What the checkpoint of a step records about its run."""
    return _meta(manager.folder, step)[0]


def restore_best(workdir: str, mesh: Mesh) -> Best:
    """Restores the best intact checkpoint of a workdir onto the devices of a mesh.

    Nothing in the workdir is changed: it may be somebody else's, or in use.

    Raises:
      NoCheckpointError: the workdir holds no run, or no finished checkpoint.
      UserError: no checkpoint is intact, or another version saved them.
    """
    folder = _folder(workdir)
    if not os.path.isdir(folder):
        if os.path.exists(os.path.join(workdir, 'model.json')):
            raise NoCheckpointError(
                f'{workdir} was exported without weights for glr_jax; export it again with '
                '--format=safetensors'
            )
        raise NoCheckpointError(
            _lost(workdir)
            or f'{workdir} holds no checkpoints; train first: python -m glr_jax.train'
        )
    readable, faults = _readable(folder)
    if not readable and faults:
        raise UserError(intact.none_left(folder, faults))
    if not readable:
        raise NoCheckpointError(_lost(workdir) or f'{workdir} holds no finished checkpoint yet')

    def read(step: int) -> Best:
        meta, values = readable[step]
        # Without weights: drawing some takes most of a second, and they would be overwritten.
        classifier = nnx.eval_shape(
            lambda: make_classifier(
                meta.config.model,
                n_mels=meta.n_mels,
                num_labels=len(meta.labels),
                seed=0,
                multi_label=meta.multi_label,
            )
        )
        _, params, stats = partition(classifier)
        like = {'params': params, 'stats': stats}
        saved = intact.read_arrays(folder, step, 'model', like, values)
        state = parallel.replicate((saved['params'], saved['stats']), mesh)
        return Best(classifier, state, meta, step, workdir)

    best, step, more = intact.first_intact(folder, _ranked(folder, list(readable)), read)
    _report_faults(folder, faults | more, step, aside=False)
    return best


def check_usable(workdir: str) -> None:
    """Makes sure that a finished run still has a checkpoint to predict with.

    Raises:
      UserError: all are lost or damaged, or another version saved them.
    """
    restore_best(workdir, parallel.make_mesh(jax.local_devices()))


def _lost(workdir: str) -> str:
    """The message if a workdir has a finished run but no checkpoints; '' if it is not finished."""
    if not is_finished(workdir):
        return ''
    return (
        f'{workdir} holds no checkpoints, although its run is finished; copy them from a backup, '
        'or train into a new --workdir'
    )


def _folder(workdir: str) -> str:
    return os.path.abspath(os.path.join(workdir, 'checkpoints'))


def _meta(folder: str, step: int) -> tuple[Meta, dict[str, Any]]:
    """The meta of a checkpoint, as an object and as stored."""
    values = intact.read_meta(folder, step)
    try:
        return from_dict(Meta, values), values
    except (UserError, TypeError, ValueError, AttributeError) as error:
        raise intact.DamagedError(f'meta: {error}') from None


def _readable(folder: str) -> tuple[dict[int, tuple[Meta, dict[str, Any]]], dict[int, str]]:
    """The meta of every checkpoint, newest first, and {step: fault} of those without one."""
    readable, faults = {}, {}
    for step in intact.steps(folder):
        try:
            readable[step] = _meta(folder, step)
        except intact.DamagedError as error:
            if intact.remains(folder, step):
                faults[step] = str(error)
    return readable, faults


def _ranked(folder: str, steps: Sequence[int]) -> list[int]:
    """Steps from the best to the worst; those that were not scored come last, newest first."""
    losses = {step: intact.validation_loss(folder, step) for step in steps}
    rank = lambda step: (losses[step] is None, losses[step] or 0.0, -step)
    return sorted(steps, key=rank)


def _set_unreadable_aside(folder: str) -> None:
    """Sets checkpoints aside whose meta is damaged, if any other can be read."""
    readable, faults = _readable(folder)
    if faults and not readable:
        raise UserError(intact.none_left(folder, faults))
    if faults:
        _report_faults(folder, faults, next(iter(readable)), aside=True)


def _report_faults(folder: str, faults: dict[int, str], used: int, *, aside: bool) -> None:
    """Names damaged checkpoints, one per line, and moves them out of the way if `aside`."""
    for step, fault in faults.items():
        message = f'{os.path.join(folder, str(step))} is damaged: {fault}'
        if aside:
            path = intact.set_aside(folder, step)
            message += f'; moved to {path}'
        if not aside or step > used:
            message += f'; the checkpoint of step {used} is used instead'
        announce(message)


def _model(state: TrainState) -> dict[str, Any]:
    """What evaluation and prediction need: the averaged parameters, if there are any."""
    return {'params': state.to_use(), 'stats': state.stats}


def _training(state: TrainState) -> dict[str, Any]:
    """What only training needs."""
    items = {'optimizer': state.optimizer, 'totals': state.totals}
    return items if state.average is None else items | {'params': state.params}
