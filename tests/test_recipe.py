"""The training recipe: optimizer, loss, augmentation, averaged weights."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from glr_jax import inference, scoring, train, train_step
from glr_jax.config import AugmentConfig, Config, DataConfig, TrainConfig
from glr_jax.data.batches import Batch
from glr_jax.data.dataset import Dataset
from glr_jax.devices import parallel
from glr_jax.fields import to_dict
from glr_jax.nn.augment import augment
from glr_jax.nn.config import ModelConfig
from glr_jax.nn.model import Classifier, make_classifier, partition
from glr_jax.optimizer import learning_rate, make_optimizer
from glr_jax.run import checkpoint, provenance
from tests import reference
from tests.conftest import make_dataset, model_config, train_config

N_MELS, LABELS = 6, ('a', 'b', 'c')
MODEL = model_config(kind='cnn', kernels=(8,), kernel_size=3, dropout=0.0)
STATISTICS = model_config(front='statistics', projection=8, hidden=8, readout='moments')
RECIPE = train_config(
    epochs=3, batch_size=4, learning_rate=0.01, warmup=0.2, weight_decay=0.1, average=0.9,
    label_smoothing=0.1, class_weights='balanced',
)  # fmt: skip
AUGMENT = AugmentConfig(
    time_masks=1, band_masks=1, equalizer=0.2, level=0.1, stretch=0.2, pitch=0.1, shortest=0.5
)


@functools.cache
def weights(config: ModelConfig) -> Any:
    """Structure, parameters and statistics; drawn here, as flax's draws take long to compile."""
    abstract = nnx.eval_shape(lambda: make_classifier(config, N_MELS, len(LABELS), seed=0))
    graph, state = nnx.split(abstract)
    rng = np.random.default_rng(1)
    for path, leaf in nnx.to_flat_state(state):
        scale = 0.2 if len(leaf.shape) == 1 else 1 / np.sqrt(leaf.shape[0])
        values = scale * rng.standard_normal(leaf.shape)
        values += {'gain': 1, 'scale': 1, 'mean': 128, 'deviation': 50}.get(path[-1], 0)
        values = np.where('deviations' in path, 1 + values**2, values)
        leaf.set_value(jnp.asarray(values, jnp.float32))
    return graph, state


def classifier_of(config: ModelConfig) -> Classifier:
    return nnx.merge(*weights(config), copy=True)


def batch_of(step: int, size: int = 16, frames: int = 12) -> Batch:
    rng = np.random.default_rng(step)
    mel = rng.integers(0, 256, (size, frames, N_MELS), np.uint8)
    place = np.arange(size, dtype=np.int32) + step * size
    return Batch(mel, rng.dirichlet(np.ones(3), size).astype(np.float32), place)


def assert_equal(one: Any, other: Any) -> None:
    """All leaves are equal bit for bit."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, *jax.device_get((one, other)))


def differ(one: Any, other: Any) -> float:
    both = jax.device_get((nnx.to_pure_dict(one), nnx.to_pure_dict(other)))
    return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(a - b).max()), *both)))


def steps(
    count: int,
    config: ModelConfig = MODEL,
    optimizer: optax.GradientTransformation | None = None,
    devices: int = 1,
    accumulate: int = 1,
    frames: int = 12,
    first: int = 0,
    **options: Any,
) -> Iterator[train_step.TrainState]:
    """The states before and after each of some steps."""
    mesh = parallel.make_mesh(jax.devices()[:devices])
    classifier, optimizer = classifier_of(config), optimizer or optax.sgd(0.1)
    program = train_step.make_train_step(classifier, optimizer, 0, accumulate, **options)
    one_step = parallel.shard_mapped(program, mesh, 'replicated')
    averaged = options.get('average', 0) > 0
    state = train_step.init_state(classifier, optimizer, averaged=averaged)
    yield jax.device_get(state)
    state = parallel.replicate(state, mesh)
    for k in range(first, first + count):
        batch = parallel.shard_batch(batch_of(k, frames=frames), mesh, 'shard_map')
        if k == first:  # optimising the machine code would take most of the test's time
            quick = {'xla_backend_optimization_level': '0'}
            one_step = one_step.lower(state, batch).compile(compiler_options=quick)
        state = one_step(state, batch)
        yield jax.device_get(state)


# ---------------------------------------------------------------- optimizer
@pytest.mark.parametrize(
    'config',
    [
        dataclasses.replace(STATISTICS, cell='gru', bidirectional=True),
        dataclasses.replace(MODEL, norm='batch'),
    ],
    ids=['statistics', 'batch'],
)
def test_weight_decay_shrinks_kernels_and_leaves_gains_and_biases_alone(
    config: ModelConfig,
) -> None:
    rate, decay = 0.01, 0.1
    flags = train_config(learning_rate=rate, weight_decay=decay, schedule='constant')
    optimizer = make_optimizer(flags, steps=10)
    _, params, _ = partition(classifier_of(config))
    rng = np.random.default_rng(2)
    grads = jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape), jnp.float32), params)

    @jax.jit
    def update(params: nnx.State, grads: nnx.State) -> nnx.State:
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        return optax.apply_updates(params, updates)

    after = dict(nnx.to_flat_state(update(params, grads)))
    gradient, kinds = dict(nnx.to_flat_state(grads)), set()
    for path, leaf in nnx.to_flat_state(params):
        g, x = np.float64(gradient[path][...]), np.float64(leaf[...])
        kernel = path[-1] not in ('gain', 'bias', 'scale')
        kinds.add('kernel' if kernel else path[-1])
        # After one step, both bias-corrected moments are those of this gradient alone.
        expected = x - rate * (g / (np.abs(g) + 1e-8) + decay * x * kernel)
        np.testing.assert_allclose(after[path][...], expected, atol=1e-6, err_msg=str(path))
    assert {'kernel', 'bias'} < kinds


def test_without_weight_decay_the_optimizer_is_adam() -> None:
    params, grads = {'kernel': jnp.ones((2, 2))}, {'kernel': jnp.eye(2)}
    flags = train_config(schedule='constant')
    found, plain = make_optimizer(flags, 10), optax.adam(optax.constant_schedule(1e-3))
    assert_equal(found.init(params), plain.init(params))
    assert_equal(*(x.update(grads, x.init(params), params) for x in (found, plain)))


def test_the_learning_rate_rises_linearly_and_then_falls_as_half_a_cosine() -> None:
    rate = learning_rate(train_config(learning_rate=2.0, warmup=0.2), steps=100)
    expected = {0: 0, 5: 0.5, 10: 1, 20: 2, 40: 1 + np.sqrt(0.5), 60: 1, 80: 1 - np.sqrt(0.5)}
    for step, value in (expected | {100: 0}).items():
        assert float(rate(step)) == pytest.approx(value, abs=1e-6), step
    flat = train_config(learning_rate=2.0, warmup=0.2, schedule='constant')
    rate = learning_rate(flat, steps=100)
    assert [float(rate(step)) for step in (0, 10, 20, 60, 100)] == [0, 1, 2, 2, 2]


def test_without_warm_up_the_learning_rate_is_that_of_the_schedule_alone() -> None:
    rate, plain = learning_rate(train_config(), 70), optax.cosine_decay_schedule(1e-3, 70)
    assert [float(rate(k)) for k in range(71)] == [float(plain(k)) for k in range(71)]
    assert float(learning_rate(train_config(schedule='constant'), 70)(33)) == np.float32(1e-3)


@pytest.mark.parametrize('count', [1, 2, 10])
def test_a_warm_up_leaves_at_least_one_step_at_the_full_rate(count: int) -> None:
    rate = learning_rate(train_config(learning_rate=2.0, warmup=0.99), count)
    assert float(rate(count - 1)) == 2.0


# ---------------------------------------------------------------- loss and average
def test_smoothing_and_class_weights_enter_the_gradient_but_not_the_logged_loss() -> None:
    model, batch = classifier_of(MODEL), batch_of(0)
    logits = np.float64(jax.jit(model)(jnp.asarray(batch.mel)))
    log_probabilities = reference.log_softmax(logits)
    plain = -np.mean(np.sum(batch.target * log_probabilities, -1))
    weights = np.float32([0.5, 2.0, 0.8])
    smoothed = 0.2 * batch.target + 0.8 / len(LABELS)
    errors = np.exp(log_probabilities) - smoothed
    weighted = np.mean((batch.target @ weights)[:, None] * errors, 0)
    for options, gradient in (
        ({}, np.mean(np.exp(log_probabilities) - batch.target, 0)),
        ({'label_smoothing': 0.8}, errors.mean(0)),
        ({'label_smoothing': 0.8, 'class_weights': weights}, weighted),
    ):
        before, after = steps(1, optimizer=optax.sgd(1.0), **options)
        bias = lambda state: nnx.to_pure_dict(state.params)['output']['bias']
        np.testing.assert_allclose(bias(before) - bias(after), gradient, atol=1e-5)
        assert float(after.totals.loss / after.totals.cases) == pytest.approx(plain, rel=1e-5)
        assert after.totals.correct == np.sum(logits.argmax(-1) == batch.target.argmax(-1))


@pytest.mark.slow
def test_each_of_two_outputs_has_its_own_loss_and_the_mean_probability_is_logged() -> None:
    config = model_config(
        front='statistics', projection=8, hidden=8, dropout=0.0, segment_projection=8
    )
    model, batch = classifier_of(config), batch_of(0, frames=70)
    outputs = np.float64(jax.jit(model.outputs)(jnp.asarray(batch.mel)))
    log_probabilities = reference.log_softmax(outputs)
    errors = np.exp(log_probabilities) - (0.8 * batch.target + 0.2 / len(LABELS))[:, None]
    before, after = steps(1, config, optimizer=optax.sgd(1.0), label_smoothing=0.2, frames=70)
    for number, name in enumerate(('output', 'segment_output')):
        bias = lambda state, name=name: nnx.to_pure_dict(state.params)[name]['bias']
        change = bias(before) - bias(after)
        np.testing.assert_allclose(change, errors[:, number].mean(0) / 2, atol=1e-4)
    mean = np.log(np.exp(log_probabilities).mean(1))
    plain = -np.mean(np.sum(batch.target * mean, -1))
    assert float(after.totals.loss / after.totals.cases) == pytest.approx(plain, rel=1e-4)


def test_segments_are_augmented_before_the_classifier_sees_them() -> None:
    model, batch = classifier_of(MODEL), batch_of(1)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), batch.place)
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, train_step.AUGMENT)
    mel = jnp.asarray(batch.mel)
    mel = jax.jit(lambda mel: augment(mel, keys, model.mean[...], model.spread(), AUGMENT))(mel)
    logits = np.float64(jax.jit(model)(mel))
    expected = -np.mean(np.sum(batch.target * reference.log_softmax(logits), -1))
    _, state = steps(1, first=1, augmentation=AUGMENT)
    _, plain = steps(1, first=1)
    assert float(state.totals.loss / state.totals.cases) == pytest.approx(expected, rel=1e-4)
    assert abs(plain.totals.loss - state.totals.loss) > 1e-2


def test_the_average_follows_its_recursion_and_does_not_change_training() -> None:
    states = list(steps(3, optimizer=optax.sgd(0.3), average=0.2))
    expected = jax.tree.map(np.float64, states[0].params)
    assert_equal(states[0].average, states[0].params)
    for decay, state in zip((1 / 10, 2 / 11, 0.2), states[1:], strict=True):
        mix = lambda a, p, d=decay: d * a + (1 - d) * p
        expected = jax.tree.map(mix, expected, state.params)
        close = functools.partial(np.testing.assert_allclose, atol=1e-6)
        jax.tree.map(close, state.average, expected)
        assert_equal(state.to_use(), state.average)
    assert differ(states[-1].average, states[-1].params) > 1e-3
    assert float(train_step.average_decay(0.99, jnp.int32(10**6))) == np.float32(0.99)
    *_, plain = steps(3, optimizer=optax.sgd(0.3))
    assert plain.average is None
    assert_equal(plain.to_use(), plain.params)
    assert differ(plain.params, states[-1].params) < 1e-6


@pytest.mark.parametrize(
    ('devices', 'accumulate'), [pytest.param(2, 1, marks=pytest.mark.slow), (4, 2)]
)
def test_devices_and_micro_batches_change_nothing(devices: int, accumulate: int) -> None:
    one, several = one_device(), last_of_three(devices, accumulate)
    assert differ(one.average, one.params) > 1e-3
    assert differ(one.params, several.params) < 1e-5
    assert differ(one.average, several.average) < 1e-5
    np.testing.assert_allclose(one.totals, several.totals, rtol=1e-5)


def last_of_three(devices: int, accumulate: int) -> train_step.TrainState:
    options = {
        'average': 0.9,
        'label_smoothing': 0.1,
        'class_weights': np.float32([0.5, 1.5, 1.0]),
        'augmentation': AUGMENT,
    }
    config = dataclasses.replace(STATISTICS, kind='cnn', dropout=0.0, front_dropout=0.2)
    *_, state = steps(3, config, devices=devices, accumulate=accumulate, frames=100, **options)
    return state


@functools.cache
def one_device() -> train_step.TrainState:
    return last_of_three(1, 1)


# ---------------------------------------------------------------- checkpoints and whole runs
def a_state(averaged: bool, devices: int) -> train_step.TrainState:
    """A state with other values in every leaf, on some devices."""
    flags = RECIPE if averaged else train_config()
    optimizer = make_optimizer(flags, steps=10)
    state = train_step.init_state(classifier_of(MODEL), optimizer, averaged=averaged)
    rng = np.random.default_rng(3)
    noisy = lambda x: np.asarray(np.asarray(x) + 9 * rng.random(x.shape), x.dtype)
    mesh = parallel.make_mesh(jax.devices()[:devices])
    return parallel.replicate(jax.tree.map(noisy, state), mesh)


def meta_of(train_config: TrainConfig = RECIPE) -> provenance.Meta:
    config = Config(model=MODEL, train=train_config)
    return provenance.Meta(config, LABELS, made_dataset().front_end, True, N_MELS)


def made_dataset() -> Dataset:
    """Twelve clips of three labels in memory."""
    rng = np.random.default_rng(0)
    targets = [k % 3 for k in range(12)]
    mels = [rng.integers(0, 100, (30, N_MELS)) + 50 * target for target in targets]
    dataset = make_dataset(LABELS, targets, [mel.astype(np.uint8) for mel in mels])
    object.__setattr__(dataset, 'n_mels', N_MELS)
    dataset.splits['random-1'] = ['train'] * 8 + ['validation'] * 4
    return dataset


@pytest.mark.parametrize(('before', 'after'), [(1, 1), (1, 2), (2, 1)])
def test_a_checkpoint_keeps_raw_and_averaged_parameters_on_any_devices(
    before: int, after: int, tmp_path: Path
) -> None:
    state = a_state(True, before)
    with checkpoint.open_manager(str(tmp_path)) as manager:
        checkpoint.save(manager, state, meta_of(), {'loss': 1.0})
    mesh = parallel.make_mesh(jax.devices()[:after])
    with checkpoint.open_manager(str(tmp_path)) as manager:
        like = jax.tree.map(jnp.zeros_like, a_state(True, after))
        found = checkpoint.restore_latest(manager, like, mesh)
    assert_equal(found, state)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(found)} == {after}
    best = checkpoint.restore_best(str(tmp_path), mesh)
    assert_equal(best.state, (state.average, state.stats))
    assert differ(state.average, state.params) > 1


def test_without_an_average_checkpoints_are_as_before_and_older_ones_restore(
    tmp_path: Path,
) -> None:
    state = a_state(False, 1)
    meta = to_dict(meta_of(train_config()))
    for name in ('front', 'window', 'window_hop', 'projection', 'bidirectional', 'front_dropout'):
        del meta['config']['model'][name]
    for name in ('warmup', 'weight_decay', 'average', 'label_smoothing', 'class_weights'):
        del meta['config']['train'][name]
    for name in ('patience', 'time_limit', 'min_steps', 'sampler'):
        del meta['config']['train'][name]
    del meta['config']['augment'], meta['seconds']
    older = ocp.args.Composite(
        model=ocp.args.StandardSave({'params': state.params, 'stats': state.stats}),
        training=ocp.args.StandardSave({'optimizer': state.optimizer, 'totals': state.totals}),
        meta=ocp.args.JsonSave(meta),
    )
    mesh = parallel.make_mesh(jax.devices()[:1])
    trees = []
    for folder in ('older', 'now'):
        with checkpoint.open_manager(str(tmp_path / folder)) as manager:
            if folder == 'older':
                manager.save(int(state.step), args=older, metrics={'loss': 1.0}, force=True)
            else:
                checkpoint.save(manager, state, meta_of(train_config()), {'loss': 1.0})
            manager.orbax.wait_until_finished()
            items = manager.orbax.item_metadata(int(state.step))
            trees.append({name: shapes(items[name].tree) for name in ('model', 'training')})
            like = jax.tree.map(jnp.zeros_like, state)
            found = checkpoint.restore_latest(manager, like, mesh)
        assert_equal(found, state)
        assert found.average is None
        best = checkpoint.restore_best(str(tmp_path / folder), mesh)
        assert_equal(best.state, (state.params, state.stats))
        assert best.meta == meta_of(train_config())
    assert trees[0] == trees[1]
    assert len(trees[0]['model']) > 5


def shapes(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): (leaf.shape, leaf.dtype) for path, leaf in leaves}


def run(
    workdir: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_at: int = 0,
    dataset: Dataset | None = None,
    **changes: Any,
) -> bool:
    """Trains in a workdir, to the end or until SIGTERM comes at a step."""

    @contextlib.contextmanager
    def stopping() -> Iterator[Any]:
        done = iter(range(1, 100))
        yield lambda: next(done) == stop_at

    monkeypatch.setattr(train.processes, 'stopping', stopping)
    mesh = parallel.make_mesh(jax.devices()[:1])
    return train.train(config_of(workdir, **changes), dataset or made_dataset(), mesh)


def config_of(workdir: Path, augment: AugmentConfig = AUGMENT, **changes: Any) -> Config:
    data = DataConfig(dir='made', frames=12, resident='off')
    recipe = dataclasses.replace(RECIPE, **changes)
    return Config(workdir=str(workdir), data=data, model=MODEL, train=recipe, augment=augment)


def test_an_averaged_run_resumes_exactly_and_its_average_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    assert run(whole, monkeypatch)
    assert not run(parts, monkeypatch, stop_at=3)  # in the second epoch
    assert run(parts, monkeypatch)
    mesh = parallel.make_mesh(jax.devices()[:1])
    states = []
    for workdir in (whole, parts):
        optimizer = make_optimizer(RECIPE, steps=6)
        state = train_step.init_state(classifier_of(MODEL), optimizer, averaged=True)
        with checkpoint.open_manager(str(workdir), read_only=True) as manager:
            states.append(checkpoint.restore_latest(manager, state, mesh))
    assert int(states[0].step) == 6
    assert_equal(*states)
    assert differ(states[0].average, states[0].params) > 1e-4

    lines = [json.loads(line) for line in (whole / 'metrics.jsonl').read_text().splitlines()]
    logged = {line['step']: line for line in lines}
    best, dataset = checkpoint.restore_best(str(whole), mesh), made_dataset()
    probabilities = inference.on_local_devices(best.classifier)
    members = dataset.members('random-1', 'validation')
    on_local = parallel.on_local(best.state)
    scores = scoring.score(probabilities(on_local), dataset, members, best.meta.config)
    assert scores['loss'] == pytest.approx(logged[best.step]['validation_loss'], rel=1e-6)
    assert best.step == 6
    assert_equal(best.state[0], states[0].average)
