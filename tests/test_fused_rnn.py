"""The fused kernels, interpreted on the CPU, and where they are used instead of the scan."""

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, use_abstract_mesh

from experiments import recurrence
from glr_jax import train_step
from glr_jax.data.batches import Batch
from glr_jax.devices import parallel
from glr_jax.errors import UsageError, UserError
from glr_jax.nn import fused_rnn, rnn
from glr_jax.nn.config import CellName
from glr_jax.nn.glr import glr
from glr_jax.nn.model import make_classifier
from glr_jax.nn.norms import NormFunction, group_norm
from tests.conftest import model_config
from tests.test_model import FRAMES, LABELS, N_MELS, small

LIKE_TPU = fused_rnn.TPU_INTERPRETED
TRITON = 'jax.experimental.pallas.triton'


def mosaic(*arguments: jax.Array) -> jax.Array:
    """The kernels for Mosaic on GPUs, interpreted; JAX can do so from 0.12 on."""
    fused_mosaic = pytest.importorskip('glr_jax.nn.fused_mosaic', exc_type=ImportError)
    return fused_rnn.recur(*arguments, target=fused_mosaic.INTERPRETED)


WAYS: dict[str, Callable] = {
    'scan': recurrence.scan,
    'recomputing': recurrence.recomputing_scan,
    'triton': functools.partial(fused_rnn.recur, target=fused_rnn.INTERPRETED),
    'mosaic': mosaic,
    'tpu': functools.partial(fused_rnn.recur, target=LIKE_TPU),
}


def draw(batch: int, time: int, hidden: int) -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(0)
    shapes = (batch, time, hidden), (hidden, hidden), (hidden,), (hidden,)
    x, kernel, gain, bias = (rng.standard_normal(shape) for shape in shapes)
    arrays = x, kernel / np.sqrt(hidden), gain, bias
    return tuple(jnp.asarray(array, jnp.float32) for array in arrays)


# Optimising the machine code of interpreted kernels would take most of the test's time.
@functools.partial(
    jax.jit, static_argnums=0, compiler_options={'xla_backend_optimization_level': '0'}
)
def with_gradients(way: str, *arguments: jax.Array) -> tuple[jax.Array, ...]:
    """The states, and the gradients of their randomly weighted sum: x, kernel, gain and bias."""
    states, back = jax.vjp(WAYS[way], *arguments)
    weights = np.random.default_rng(1).standard_normal(states.shape)
    return states, *back(jnp.asarray(weights, states.dtype))


def error(way: str, arguments: tuple[jax.Array, ...]) -> float:
    """The largest difference from the scan, relative to the largest value of each result."""
    found, expected = jax.device_get([with_gradients(w, *arguments) for w in (way, 'scan')])
    pairs = zip(found, expected, strict=True)
    # Unlike Python's max, NumPy's passes on a NaN.
    return np.max([np.abs(a - b).max() / np.maximum(np.abs(b).max(), 1e-6) for a, b in pairs])


CASES = [
    ('recomputing', 1, 1, 8),
    ('recomputing', 3, 20, 96),
    ('triton', 1, 1, 8),
    ('triton', 3, 4, 96),
    ('triton', 32, 2, 128),
    ('triton', 3, 33, 20),
    ('mosaic', 1, 1, 8),
    ('mosaic', 2, 3, 96),
    ('mosaic', 3, 5, 128),
    ('tpu', 3, 4, 96),
    ('tpu', 17, 5, 100),
]


@pytest.mark.parametrize(('way', 'batch', 'time', 'hidden'), CASES)
def test_states_and_gradients_equal_the_scan(batch: int, time: int, hidden: int, way: str) -> None:
    assert error(way, draw(batch, time, hidden)) < 1e-5


@pytest.mark.parametrize('case', ['constant', 'zero', 'large', 'small'])
def test_extreme_inputs_equal_the_scan_too(case: str) -> None:
    x, *weights = draw(3, 4, 96)
    x = {
        'constant': jnp.ones_like(x),  # no variance at the first step
        'zero': jnp.zeros_like(x),
        'large': 1e4 * x,
        'small': 1e-6 * x,
    }[case]
    # With a kernel of zeros, all later steps get the extreme inputs too.
    for kernel in (weights[0], jnp.zeros_like(weights[0])):
        assert error('triton', (x, kernel, *weights[1:])) < 1e-5  # and no NaN


@pytest.mark.parametrize('way', ['recomputing', 'triton', 'mosaic', 'tpu'])
def test_bfloat16_differs_from_float32_only_by_rounding(way: str) -> None:
    x, kernel, gain, bias = draw(3, 4, 96)
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    rounded = with_gradients(way, x, kernel, gain, bias)
    assert [a.dtype for a in rounded] == [*3 * [jnp.bfloat16], *2 * [jnp.float32]]
    exact = with_gradients('scan', x.astype(jnp.float32), kernel.astype(jnp.float32), gain, bias)
    for found, expected in zip(jax.device_get(rounded), jax.device_get(exact), strict=True):
        difference = np.abs(found.astype(np.float32) - expected).max()
        assert 0 < difference < 2**-5 * np.abs(expected).max()


@functools.cache
def train(devices: int, mapper: parallel.Mapper = 'shard_map', **model: Any) -> Any:
    """The parameters after three training steps on a number of devices."""
    classifier = small(kind='rnn', **model)
    optimizer, mesh = optax.sgd(0.1), parallel.make_mesh(jax.devices()[:devices])
    program = train_step.make_train_step(classifier, optimizer, seed=0)
    step = parallel.on_every_device(program, mesh, mapper=mapper, result='replicated')
    state = parallel.replicate(train_step.init_state(classifier, optimizer), mesh)
    rng = np.random.default_rng(0)
    for _ in range(3):
        mel = rng.integers(0, 256, (16, FRAMES, N_MELS), np.uint8)
        target = rng.dirichlet(np.ones(LABELS), 16).astype(np.float32)
        batch = Batch(mel, target, np.arange(16, dtype=np.int32))
        state = step(state, parallel.shard_batch(batch, mesh, mapper))
    return jax.device_get(nnx.to_pure_dict(state.params))


@pytest.mark.parametrize(('devices', 'mapper'), [(1, 'shard_map'), (8, 'shard_map'), (8, 'pmap')])
def test_training_gives_the_same_parameters_as_with_the_scan(
    devices: int, mapper: parallel.Mapper
) -> None:
    found, expected = train(devices, mapper, recurrence='fused'), train(1, recurrence='scan')
    differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), found, expected)
    assert max(jax.tree.leaves(differences)) < 1e-5


def count_kernels(platform: str, **model: Any) -> dict[str, int]:
    """The number of kernels of each kind in a gradient lowered for a platform."""
    config = model_config(**{'kind': 'rnn', **model})
    make = lambda: make_classifier(config, n_mels=6, num_labels=3, seed=0)
    graph, state = nnx.split(nnx.eval_shape(make))
    loss = lambda state, mel: nnx.merge(graph, state, copy=True)(mel).sum()
    shape = jax.ShapeDtypeStruct((2, 10, 6), 'float32')
    kind = AbstractDevice('NVIDIA H100 80GB HBM3', None, 'gpu')
    mesh = AbstractMesh((1,), ('data',), (AxisType.Auto,), abstract_device=kind)
    with use_abstract_mesh(mesh):  # jax 0.12 has to know the kind of GPU, and there is none here
        traced = jax.jit(jax.grad(loss)).trace(state, shape)
        text = traced.lower(lowering_platforms=(platform,)).as_text()
    kinds = {'triton': '__gpu$xla.gpu.triton', 'mosaic': '@mosaic_gpu', 'loop': 'stablehlo.while'}
    return {kind: text.count(name) for kind, name in kinds.items() if name in text}


@pytest.mark.parametrize(
    'model', [{}, {'norm': 'glr_layer', 'dtype': 'bfloat16', 'hidden': 128}, {'hidden': 5}]
)
def test_a_gpu_gets_one_kernel_forward_and_one_backward(model: dict) -> None:
    assert count_kernels('cuda', **model) == {'triton': 2}


@pytest.mark.parametrize(
    'model', [{'cell': 'gru'}, {'norm': 'group'}, {'hidden': 136}, {'recurrence': 'scan'}]
)
def test_a_gpu_scans_where_there_is_no_kernel(model: dict) -> None:
    assert count_kernels('cuda', **model) == {'loop': 2}


def test_a_cpu_scans() -> None:
    assert count_kernels('cpu') == {'loop': 2}


@pytest.fixture
def no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, TRITON, None)
    monkeypatch.delattr('jax.experimental.pallas.triton', raising=False)


@pytest.fixture
def no_pallas(no_triton: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('jax.experimental.pallas', 'glr_jax.nn.fused_rnn', 'glr_jax.nn.fused_mosaic'):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delattr(name, raising=False)


def test_without_triton_a_gpu_gets_kernels_by_mosaic(no_triton: None) -> None:
    pytest.importorskip('glr_jax.nn.fused_mosaic', exc_type=ImportError)
    assert count_kernels('cuda') == {'mosaic': 2}


def test_without_pallas_a_gpu_scans(no_pallas: None) -> None:
    assert count_kernels('cuda') == {'loop': 2}


def test_asking_for_a_kernel_without_pallas_is_an_error(no_pallas: None) -> None:
    with pytest.raises(UserError, match=r'fused needs Pallas, which jax .* lacks') as error:
        count_kernels('cpu', recurrence='fused')
    assert '\n' not in str(error.value)


def test_asking_for_a_kernel_on_a_gpu_without_a_backend_is_an_error(
    no_triton: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_rnn, 'for_gpus', lambda devices: {})
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    with pytest.raises(UserError, match=r'fused needs a GPU of .* 8\.0') as error:
        count_kernels('cpu', recurrence='fused')
    assert '\n' not in str(error.value)


WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({names!r}))
from glr_jax import cli, train
cli.execute(train.main)
"""


@pytest.mark.slow
@pytest.mark.parametrize('names', [[TRITON], ['jax.experimental.pallas']])
def test_a_run_trains_in_a_version_of_jax_without_pallas(
    names: list[str], prepared: Path, tmp_path: Path
) -> None:
    model = ['--model.front=conv', '--model.kernels=4', '--model.cell=simple', '--model.hidden=5']
    sizes = ['--train.epochs=1', '--train.batch_size=2', '--data.frames=16']
    flags = [f'--data.dir={prepared}', *model, *sizes, f'--workdir={tmp_path / "run"}']
    command = [sys.executable, '-c', WITHOUT.format(names=names), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    if names != [TRITON]:
        command = [*command[:-1], f'--workdir={tmp_path / "other"}', '--model.recurrence=fused']
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 1
        assert '--model.recurrence=fused needs Pallas' in done.stderr.splitlines()[-1]
        assert 'Traceback' not in done.stderr


@pytest.mark.parametrize(
    ('capability', 'names'), [('7.5', set()), ('8.0', {'Triton'}), ('10.0', {'Triton', 'Mosaic'})]
)
def test_old_gpus_have_fewer_backends_or_none(capability: str, names: set[str]) -> None:
    gpu = Mock(jax.Device, compute_capability=capability)
    found = set(fused_rnn.for_gpus([*jax.devices(), gpu]))
    assert found | {'Mosaic'} == names | {'Mosaic'}  # which needs jax 0.12
    assert found <= names


@pytest.mark.parametrize('model', [{'cell': 'lstm'}, {'norm': 'batch'}, {'hidden': 136}])
def test_a_config_that_asks_for_a_missing_kernel_is_an_error(model: dict) -> None:
    with pytest.raises(UsageError, match=r'--model.recurrence=fused needs .* at most 128') as error:
        model_config(recurrence='fused', **model)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('cell', 'norm', 'hidden'), [('lstm', glr, 8), ('simple', group_norm, 8), ('simple', glr, 136)]
)
def test_asking_for_a_missing_kernel_is_an_error(
    cell: CellName, norm: NormFunction, hidden: int
) -> None:
    gates = rnn.GATES[cell]
    x, kernel = jnp.zeros((2, 3, gates, hidden)), jnp.zeros((hidden, gates, hidden))
    gain = bias = jnp.zeros((gates, hidden))
    with pytest.raises(ValueError, match='only the simple cell with GLR and at most 128 units'):
        rnn.recur(cell, x, kernel, gain, bias, norm=norm, implementation='fused')
