"""Where a run starts: at its latest intact checkpoint, at another run's weights, or afresh."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from glr_jax import train_step
from glr_jax.config import Config
from glr_jax.data.dataset import Dataset
from glr_jax.devices import parallel, processes
from glr_jax.devices.processes import announce
from glr_jax.errors import UserError
from glr_jax.fields import to_dict
from glr_jax.input_statistics import fit_input_statistics
from glr_jax.nn.config import ModelConfig
from glr_jax.nn.model import Classifier, make_classifier, partition
from glr_jax.run import checkpoint, provenance, training_data
from glr_jax.train_step import TrainState

# They change neither the parameters nor what the trained network computes.
_FREE = ('dropout', 'front_dropout', 'statistics_dropout', 'dtype', 'recurrence')


class Start(NamedTuple):
    """Where a run starts.

    Attributes:
      state: replicated.
      meta: what its checkpoints record.
      spent: seconds of training so far.
    """

    state: TrainState
    meta: provenance.Meta
    spent: float


def begin(
    config: Config,
    dataset: Dataset,
    manager: checkpoint.Manager,
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
) -> Start:
    """The state of a run from which training continues.

    Args:
      config: of the run.
      dataset: its clips.
      manager: of its checkpoints.
      classifier: with fresh weights; if there is no checkpoint, its statistics are set in place.
      optimizer: of the run.
      mesh: where the state goes.

    Raises:
      UserError: the data changed since the run began, no checkpoint is intact, or `--init_from`
        names a run that does not suit this one.
    """
    latest, saved = manager.latest_step(), None
    if latest is not None:
        saved = checkpoint.read_meta(manager, latest)
        provenance.check_dataset(dataset, saved, config.workdir)
    elif config.init_from:
        load(classifier, config.model, dataset, config.init_from)
    else:
        clips = dataset.members(config.data.split, 'train')
        fit_input_statistics(classifier, dataset, clips, config.data.frames)
    data = training_data.clips_of(dataset, config.data.split)
    changed = processes.on_first(
        lambda: training_data.check(
            config.workdir,
            dataset,
            data,
            saved.data if saved else None,
            allow=config.allow_changed_data,
            source=config.init_from,
        )
    )
    if changed:
        announce(f'the data changed since the run began: {"; ".join(changed)}')
    averaged = config.train.average > 0
    state = train_step.init_state(classifier, optimizer, averaged=averaged)
    state = checkpoint.restore_latest(manager, parallel.replicate(state, mesh), mesh)
    done = int(state.step)
    spent = checkpoint.read_meta(manager, done).seconds if done else 0.0
    return Start(state, provenance.make_meta(config, dataset, data.digest), spent)


def load(classifier: Classifier, config: ModelConfig, dataset: Dataset, workdir: str) -> None:
    """Sets a classifier's weights and statistics to those of a run's best checkpoint, in place.

    If the labels or the number of labels per clip differ, the output layers keep their fresh
    weights.

    Args:
      classifier: before training.
      config: of its network.
      dataset: that it will be trained on.
      workdir: of the other run.

    Raises:
      UserError: that run has no intact checkpoint, another network or another front end.
    """
    local = parallel.make_mesh(jax.local_devices())
    best = checkpoint.restore_best(workdir, local)
    provenance.check_front_end(dataset, best.meta, workdir)
    ours, theirs = to_dict(config), to_dict(best.meta.config.model)
    changed = [
        f'--model.{name}={theirs[name]} (not {ours[name]})'
        for name in ours
        if name not in _FREE and ours[name] != theirs[name]
    ]
    if changed:
        raise UserError(f'--init_from={workdir} has another network: {", ".join(changed)}')
    params, stats = parallel.on_local(best.state)
    reason = ''
    if best.meta.labels != dataset.labels:
        reason = 'its labels differ'
    elif best.meta.multi_label != dataset.multi_label:
        count = 'any number of labels' if best.meta.multi_label else 'one label'
        reason = f'it was trained with {count} per clip'
    if reason:
        _, fresh, _ = partition(classifier)
        is_output = _depends_on_labels(config, dataset.n_mels)
        params = jax.tree.map(lambda old, new, out: new if out else old, params, fresh, is_output)
    nnx.update(classifier, *jax.tree.map(jnp.asarray, (params, stats)))
    announce(
        f'weights from step {best.step} of {workdir}'
        + (f'; {reason}, so the output layers start anew' if reason else '')
    )


def _depends_on_labels(config: ModelConfig, n_mels: int) -> Any:
    """Which parameters belong to output layers: those whose shape depends on the labels."""
    one, two = (
        partition(nnx.eval_shape(lambda count=count: make_classifier(config, n_mels, count, 0)))[1]
        for count in (2, 3)
    )
    return jax.tree.map(lambda a, b: a.shape != b.shape, one, two)
