"""Orbax checkpoints: the latest to resume from, the best to use.

A checkpoint has three items: `model` (parameters and statistics), `training` (optimizer and totals)
and `meta` (config, labels, front end), so that prediction needs nothing else.
"""

import dataclasses
import os
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
    """

    classifier: Classifier
    state: tuple[Any, Any]
    meta: Meta
    step: int


def make_meta(config: Config, dataset: Dataset) -> Meta:
    """What the checkpoints of a run on a dataset record."""
    return Meta(config, dataset.labels, dataset.front_end, dataset.from_audio, dataset.n_mels)


def check_dataset(dataset: Dataset, meta: Meta, workdir: str) -> None:
    """Raises `UserError` if a dataset's labels or front end differ from those trained on."""
    if dataset.labels != meta.labels or dataset.n_mels != meta.n_mels:
        raise UserError(
            f'{dataset.folder} has other labels or mel bands than {workdir} was trained on'
        )
    now, then = to_dict(dataset.front_end), to_dict(meta.front_end)
    changed = [name for name in then if now[name] != then[name]]
    if changed:
        flags = lambda values: ' '.join(f'--{name}={values[name]}' for name in changed)
        raise UserError(
            f'{dataset.folder} was prepared with {flags(now)}, but {workdir} was trained on '
            f'{flags(then)}; prepare it again with the latter'
        )


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
      UserError: the workdir holds no run, or no finished checkpoint.
    """
    if not os.path.isdir(os.path.join(workdir, 'checkpoints')):
        raise UserError(f'{workdir} holds no checkpoints; train first: python -m glr_jax.train')
    with open_manager(workdir, read_only=True) as manager:
        step = manager.best_step()
        step = manager.latest_step() if step is None else step
        if step is None:
            raise UserError(f'{workdir} holds no finished checkpoint yet')
        meta = read_meta(manager, step)
        classifier = make_classifier(
            meta.config.model, n_mels=meta.n_mels, num_labels=len(meta.labels), seed=0
        )
        _, params, stats = partition(classifier)
        like = _abstract({'params': params, 'stats': stats}, mesh)
        saved = manager.restore(step, args=ocp.args.Composite(model=ocp.args.StandardRestore(like)))
    return Best(classifier, (saved.model['params'], saved.model['stats']), meta, step)


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
