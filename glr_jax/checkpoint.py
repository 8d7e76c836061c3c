"""Orbax checkpoints: the latest to resume from, the best to use.

A checkpoint has three items: `model` (parameters and statistics), `training` (optimizer and totals)
and `meta` (config, labels, front end), so that prediction needs nothing else.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint.checkpoint_managers import preservation_policy

from glr_jax.config import Config
from glr_jax.data.dataset import Dataset
from glr_jax.data.mel import FrontEnd
from glr_jax.errors import UserError
from glr_jax.fields import from_dict, to_dict
from glr_jax.nn.model import Classifier, make_classifier, partition
from glr_jax.train_step import TrainState


class NoCheckpointError(UserError):
    """A workdir has no finished checkpoint."""


@dataclasses.dataclass(frozen=True)
class Meta:
    """What a checkpoint records about its run; `seconds` is the training time until then."""

    config: Config
    labels: tuple[str, ...]
    front_end: FrontEnd
    from_audio: bool
    n_mels: int
    seconds: float = 0.0


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


def make_meta(config: Config, dataset: Dataset) -> Meta:
    """What the checkpoints of a run on a dataset record."""
    return Meta(config, dataset.labels, dataset.front_end, dataset.from_audio, dataset.n_mels)


def check_dataset(dataset: Dataset, meta: Meta, workdir: str) -> None:
    """Raises `UserError` if a dataset's labels or front end differ from those trained on."""
    if dataset.labels != meta.labels or dataset.n_mels != meta.n_mels:
        raise UserError(
            f'{dataset.folder} has other labels or mel bands than {workdir} was trained on'
        )
    now, then = _different_flags(dataset.front_end, meta.front_end)
    if now != then:
        raise UserError(
            f'{dataset.folder} was prepared with {now}, but {workdir} was trained on '
            f'{then}; prepare it again with the latter'
        )


def check_alike(runs: Sequence[Best]) -> None:
    """Raises `UserError` if the labels or the front ends of some runs differ."""
    for run in runs:
        first, other = runs[0].meta, run.meta
        pair = f'{runs[0].workdir} and {run.workdir} cannot be averaged'
        if first.labels != other.labels:
            raise UserError(f'{pair}: their labels differ')
        if first.from_audio != other.from_audio:
            raise UserError(f'{pair}: only one of them was trained on ready-made spectrograms')
        if first.n_mels != other.n_mels:
            raise UserError(f'{pair}: they have {first.n_mels} and {other.n_mels} mel bands')
        one, two = _different_flags(first.front_end, other.front_end)
        if one != two:
            raise UserError(f'{pair}: their datasets were prepared with {one} and {two}')


def _different_flags(one: FrontEnd, other: FrontEnd) -> tuple[str, str]:
    """The flags of two front ends where they differ; two empty texts if they are equal."""
    a, b = to_dict(one), to_dict(other)
    changed = [name for name in b if a[name] != b[name]]
    flags = lambda values: ' '.join(f'--{name}={values[name]}' for name in changed)
    return flags(a), flags(b)


def find_runs(folder: str) -> list[str]:
    """The workdirs that a folder stands for: itself if it is one, else all those below it.

    They are sorted; folders whose name begins with a dot are skipped. The runs may be symbolic
    links, so that a folder of links can name a selection.
    """
    if _is_workdir(folder):
        return [folder]
    found: list[str] = []
    for parent, folders, _ in os.walk(folder):
        paths = {name: os.path.join(parent, name) for name in folders if name[0] != '.'}
        runs = {name for name, path in paths.items() if _is_workdir(path)}
        found += [paths[name] for name in runs]
        folders[:] = [name for name in paths if name not in runs]
    return sorted(found)


def _is_workdir(folder: str) -> bool:
    return any(os.path.exists(os.path.join(folder, x)) for x in ('config.json', 'checkpoints'))


def open_manager(workdir: str, read_only: bool = False) -> ocp.CheckpointManager:
    """Orbax's manager of a workdir; it keeps the newest checkpoint and the best one."""
    # Both best_fn and the policies are needed: the policies alone do not tell which one is best.
    newest = preservation_policy.LatestN(1)
    best = preservation_policy.BestN(
        get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False
    )
    return ocp.CheckpointManager(
        os.path.abspath(os.path.join(workdir, 'checkpoints')),
        options=ocp.CheckpointManagerOptions(
            best_fn=_rank,
            preservation_policy=preservation_policy.AnyPreservationPolicy([newest, best]),
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
            create=not read_only,
        ),
    )


def save(
    manager: ocp.CheckpointManager,
    state: TrainState,
    meta: Meta,
    validation: dict[str, Any] | None,
) -> None:
    """Saves a checkpoint in the background; one without validation scores never ranks as best."""
    items = ocp.args.Composite(
        model=ocp.args.StandardSave(_model(state)),
        training=ocp.args.StandardSave(_training(state)),
        meta=ocp.args.JsonSave(to_dict(meta)),
    )
    manager.save(int(state.step), args=items, metrics=validation, force=True)


def restore_latest(manager: ocp.CheckpointManager, state: TrainState, mesh: Mesh) -> TrainState:
    """The newest checkpoint, on this mesh whichever mesh saved it; `state` if there is none."""
    step = manager.latest_step()
    if step is None:
        return state
    like = _abstract(state, mesh)
    saved = manager.restore(
        step,
        args=ocp.args.Composite(
            model=ocp.args.StandardRestore(_model(like)),
            training=ocp.args.StandardRestore(_training(like)),
        ),
    )
    counted = jax.device_put(jax.numpy.int32(step), like.step.sharding)
    params, stats = saved.model['params'], saved.model['stats']
    optimizer, totals = saved.training['optimizer'], saved.training['totals']
    if state.average is None:
        return TrainState(counted, params, stats, optimizer, totals)
    return TrainState(counted, saved.training['params'], stats, optimizer, totals, params)


def read_meta(manager: ocp.CheckpointManager, step: int) -> Meta:
    """What the checkpoint of a step records about its run."""
    saved = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
    return from_dict(Meta, saved.meta)


def restore_best(workdir: str, mesh: Mesh) -> Best:
    """Restores the best checkpoint of a workdir onto the devices of a mesh.

    Raises:
      NoCheckpointError: the workdir holds no run, or no finished checkpoint.
    """
    if not os.path.isdir(os.path.join(workdir, 'checkpoints')):
        raise NoCheckpointError(
            f'{workdir} holds no checkpoints; train first: python -m glr_jax.train'
        )
    with open_manager(workdir, read_only=True) as manager:
        step = manager.best_step()
        step = manager.latest_step() if step is None else step
        if step is None:
            raise NoCheckpointError(f'{workdir} holds no finished checkpoint yet')
        meta = read_meta(manager, step)
        classifier = make_classifier(
            meta.config.model, n_mels=meta.n_mels, num_labels=len(meta.labels), seed=0
        )
        _, params, stats = partition(classifier)
        like = _abstract({'params': params, 'stats': stats}, mesh)
        saved = manager.restore(step, args=ocp.args.Composite(model=ocp.args.StandardRestore(like)))
    return Best(classifier, (saved.model['params'], saved.model['stats']), meta, step, workdir)


def _model(state: TrainState) -> dict[str, Any]:
    """What evaluation and prediction need: the averaged parameters, if there are any."""
    return {'params': state.to_use(), 'stats': state.stats}


def _training(state: TrainState) -> dict[str, Any]:
    """What only training needs."""
    items = {'optimizer': state.optimizer, 'totals': state.totals}
    return items if state.average is None else items | {'params': state.params}


def _abstract(tree: Any, mesh: Mesh) -> Any:
    sharding = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _rank(validation: dict[str, float]) -> float:
    """Ranks by validation loss; on a hundred clips the best of fifty accuracies is largely luck."""
    return -validation['loss']
