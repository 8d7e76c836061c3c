import functools
import re
from typing import Any

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from glr_jax import train_step
from glr_jax.data.batches import Batch
from glr_jax.devices import parallel
from glr_jax.errors import UserError
from glr_jax.nn.model import make_classifier
from tests.conftest import model_config

CONFIG = {'kernels': (8,), 'kernel_size': 3, 'hidden': 8}
OPTIMIZER = optax.sgd(0.1)


def batch_of(step: int, size: int = 16) -> Batch:
    rng = np.random.default_rng(step)
    mel = rng.integers(0, 256, (size, 12, 6), np.uint8)
    place = np.arange(size, dtype=np.int32) + step * size
    return Batch(mel, rng.dirichlet(np.ones(3), size).astype(np.float32), place)


@functools.cache
def train(
    devices: int,
    mapper: parallel.Mapper = 'shard_map',
    accumulate: int = 1,
    multi_label: bool = False,
    **model: Any,
) -> Any:
    """Parameters after four steps on some devices, and loss and accuracy after each."""
    mesh = parallel.make_mesh(jax.devices()[:devices])
    config = model_config(**CONFIG, **model)
    classifier = make_classifier(config, 6, num_labels=3, seed=0, multi_label=multi_label)
    classifier.deviation[...] = 50 + classifier.deviation[...]
    balanced = {'label_smoothing': 0.1, 'class_weights': np.float32([[1, 0.5, 2], [2, 3, 0.5]])}
    options: dict[str, Any] = balanced if multi_label else {}
    program = train_step.make_train_step(classifier, OPTIMIZER, 0, accumulate, **options)
    step = parallel.on_every_device(program, mesh, mapper=mapper, result='replicated')
    state = parallel.replicate(train_step.init_state(classifier, OPTIMIZER), mesh)
    curve = []
    for k in range(4):
        state = step(state, parallel.shard_batch(batch_of(k), mesh, mapper))
        loss, correct, cases = jax.device_get(state.totals)
        curve.append((loss / cases, correct / cases))
    return jax.device_get(nnx.to_pure_dict(state.params)), curve


@pytest.mark.parametrize('mapper', ['shard_map', 'pmap'])
def test_a_step_reuses_the_memory_of_the_old_state(mapper) -> None:
    mesh = parallel.make_mesh(jax.devices()[:2])
    classifier = make_classifier(model_config(**CONFIG), n_mels=6, num_labels=3, seed=0)
    program = train_step.make_train_step(classifier, optax.adam(0.1), seed=0)
    step = parallel.on_every_device(program, mesh, mapper=mapper, result='replicated')
    state = parallel.replicate(train_step.init_state(classifier, optax.adam(0.1)), mesh)
    pointers = lambda tree: {
        x.addressable_data(0).unsafe_buffer_pointer() for x in jax.tree.leaves(tree)
    }
    batches = [parallel.shard_batch(batch_of(k), mesh, mapper) for k in range(2)]
    before = step(state, batches[0])
    was_at = pointers(before)
    after = step(before, batches[1])
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert pointers(after) == was_at


def differences(one: Any, other: Any) -> float:
    return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(a - b).max()), one, other)))


@pytest.mark.parametrize(
    ('mapper', 'accumulate', 'devices'),
    [
        *(('shard_map', 1, devices) for devices in (2, 4, 8)),
        *(('shard_map', 2, devices) for devices in (1, 2, 4, 8)),
        *(('pmap', 1, devices) for devices in (1, 2, 4, 8)),
        ('pmap', 2, 4),
    ],
)
def test_devices_micro_batches_and_mapper_do_not_change_results(
    mapper, accumulate, devices
) -> None:
    assert differences(train(1), train(devices, mapper, accumulate)) < 1e-5


@pytest.mark.parametrize(
    ('mapper', 'accumulate', 'devices'),
    [
        pytest.param('shard_map', 1, 2, marks=pytest.mark.slow),
        ('shard_map', 2, 4),
        ('pmap', 2, 1),
    ],
)
def test_nor_do_they_where_clips_have_several_labels(mapper, accumulate, devices) -> None:
    found = train(devices, mapper, accumulate, multi_label=True)
    assert differences(train(1, multi_label=True), found) < 1e-5
    assert differences(train(1), found) > 1e-3  # its own loss


def test_batch_norm_normalises_over_a_micro_batch() -> None:
    assert differences(train(1, norm='batch'), train(1, accumulate=4, norm='batch')) > 1e-3
    # Micro-batches one after the other normalise like devices side by side.
    parts, devices = train(1, accumulate=4, norm='batch'), train(4, norm='batch')
    assert differences(parts, devices) < 1e-5


def test_devices_change_per_device_batch_norm_but_not_the_synchronised_one() -> None:
    assert differences(train(1, norm='batch_sync'), train(4, norm='batch_sync')) < 1e-5
    assert differences(train(1, norm='batch'), train(4, norm='batch')) > 1e-3


def test_training_changes_the_parameters_and_dropout_is_on() -> None:
    with_dropout, without = train(1), train(1, dropout=0.0)
    assert differences(with_dropout, without) > 1e-4


def all_reduces(norm: str, accumulate: int) -> tuple[int, int]:
    """How many a train step does once, and how many per micro-batch."""
    mesh = parallel.make_mesh()
    classifier = make_classifier(model_config(**CONFIG, norm=norm), n_mels=6, num_labels=3, seed=0)
    program = train_step.make_train_step(classifier, OPTIMIZER, seed=0, accumulate=accumulate)
    step = parallel.shard_mapped(program, mesh, 'replicated')
    state, batch = train_step.init_state(classifier, OPTIMIZER), batch_of(0, 8 * accumulate)
    text = step.lower(state, batch).compile().as_text()
    loops, entry = (
        len(re.findall(r' all-reduce(?:-start)?\(', part)) for part in text.split('ENTRY')
    )
    return entry, loops


@pytest.mark.parametrize('accumulate', [1, 4])
def test_glr_needs_one_all_reduce_per_step(accumulate: int) -> None:
    assert all_reduces('glr', accumulate) == (1, 0)


def test_synchronised_batch_norm_needs_more_per_layer_and_micro_batch() -> None:
    layers = 2  # after the convolution, and on the inputs of the recurrence
    assert all_reduces('batch_sync', 1) == (1 + 2 * layers, 0)  # forward and backward
    assert all_reduces('batch_sync', 4) == (1, 2 * layers)


@pytest.mark.parametrize('mapper', ['shard_map', 'pmap'])
def test_sharded_results_come_back_in_order(mapper) -> None:
    program, mesh = lambda state, x: state * x, parallel.make_mesh()
    double = parallel.on_every_device(program, mesh, mapper=mapper, result='sharded')
    x = parallel.shard_batch(np.arange(16), mesh, mapper)
    np.testing.assert_array_equal(double(np.float32(2), x), 2 * np.arange(16))


def test_a_batch_that_cannot_be_divided_is_refused_by_its_flag() -> None:
    with pytest.raises(UserError, match=r'--train.batch_size=12 .* multiple of 8'):
        parallel.process_slice(12, parallel.make_mesh())
