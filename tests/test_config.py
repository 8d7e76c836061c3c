"""Configs: one that does not go together cannot be built, and flagfiles are short deltas."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from glr_jax import cli, config
from glr_jax.config import Config, DataConfig, ParallelConfig
from glr_jax.errors import UsageError
from glr_jax.nn.config import GLR_NORMS, ModelConfig
from tests.conftest import model_config, train_config

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ('kind', 'values', 'words'),
    [
        (model_config, {'pool': (2, 2, 2)}, '--model.pool has 3 sizes for 2 convolutions'),
        (model_config, {'dropout': 1.5}, '--dropout=1.5 must be at least 0 and less than 1'),
        (model_config, {'dropout': True}, 'must be of type float'),
        (model_config, {'norm': 'group', 'hidden': 30}, 'not 30'),
        (model_config, {'recurrence': 'fused', 'cell': 'gru'}, '--model.recurrence=fused'),
        (model_config, {'recurrence': 'fused', 'norm': 'batch'}, '--model.recurrence=fused'),
        (model_config, {'recurrence': 'fused', 'hidden': 136}, 'at most 128'),
        (
            model_config,
            {'recurrence': 'fused', 'pass_level': True},
            'glr_layer or glr_step without --model.pass_level',
        ),
        (
            model_config,
            {'pass_level': True, 'norm': 'batch'},
            '--model.pass_level needs --model.norm=glr, glr_layer or glr_step, not batch',
        ),
        (model_config, {'kernels': ()}, '--kernels= needs at least one value'),
        (model_config, {'pool_bands': (2,)}, '--model.pool_bands needs --model.conv=2d, not 1d'),
        (
            model_config,
            {'conv': '2d', 'pool_bands': (2, 2, 2)},
            '--model.pool_bands has 3 sizes for 2 convolutions',
        ),
        (model_config, {'conv': '2d', 'merge_bands': 0}, '--merge_bands=0 must be at least 1'),
        (model_config, {'merge_bands': 2}, '--model.merge_bands needs 2-D convolutions'),
        (ModelConfig, {'merge_bands': 2}, '--model.merge_bands needs 2-D convolutions'),
        (
            ModelConfig,
            {'kernels': (32, 32)},
            '--model.kernels needs --model.front=conv or both, not statistics',
        ),
        (ModelConfig, {'conv': '2d'}, '--model.conv needs --model.front=conv or both'),
        (train_config, {'epochs': 0}, '--epochs=0 must be at least 1'),
        (train_config, {'learning_rate': float('nan')}, 'must be a finite number'),
        (DataConfig, {'frames': 7}, '--frames=7 must be at least 8'),
        (ParallelConfig, {'coordinator': 'here'}, 'is not HOST:PORT or auto'),
        (ParallelConfig, {'num_processes': 2}, 'need --parallel.coordinator=HOST:PORT'),
        (
            ParallelConfig,
            {'coordinator': 'h:1', 'num_processes': 2, 'process_id': 2},
            '--parallel.process_id=2 must be less than --parallel.num_processes=2',
        ),
        (Config, {'seed': -1}, '--seed=-1'),
        (Config, {'workdir': 'gs://bucket/run'}, '--workdir=gs://bucket/run'),
        (
            Config,
            {'data': DataConfig(frames=8), 'model': model_config(pool=(4,))},
            '--data.frames=8 is too short',
        ),
    ],
)
def test_what_does_not_go_together_cannot_be_built(
    kind: Any, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError) as error:
        kind(**values)
    assert words in str(error.value)
    with pytest.raises(UsageError):
        dataclasses.replace(kind(), **values)


def test_pooling_must_leave_mel_bands() -> None:
    model = model_config(conv='2d', pool=(4,))
    model.check_bands(16)
    with pytest.raises(UsageError, match=r'--model\.pool reduces'):
        model.check_bands(15)
    model_config(conv='1d', pool=(4,)).check_bands(15)
    model = model_config(conv='2d', pool=(4,), pool_bands=(0, 2))  # 0: as over time
    assert (model.band_pools(), model.pooled()) == ([4, 2], (16, 8))
    model.check_bands(8)
    with pytest.raises(UsageError, match=r'--model\.pool reduces the mel bands 8-fold'):
        model.check_bands(7)
    assert model_config(kind='rnn', conv='2d').pooled() == (1, 1)


@pytest.mark.parametrize('norm', GLR_NORMS)
def test_only_glr_that_passes_no_level_on_can_be_fused(norm: Any) -> None:
    assert model_config(norm=norm).fusible()
    assert not model_config(norm=norm, pass_level=True).fusible()


def test_differences_name_flags_and_leave_out_those_without_effect() -> None:
    paper = Config(model=model_config())
    other = Config(seed=1, data=DataConfig(resident='on'), model=model_config(hidden=8))
    assert config.differences(paper, other) == ['--model.hidden=96 (not 8)', '--seed=0 (not 1)']
    found = config.differences(Config(), Config(data=DataConfig(resident='on')), ignore=())
    assert found == ['--data.resident=auto (not on)']


@pytest.mark.parametrize('path', sorted(ROOT.glob('experiments/*.flags')), ids=lambda p: p.stem)
def test_a_flagfile_is_a_short_delta_with_its_command_in_the_header(path: Path) -> None:
    found = cli.parse(Config, ['train', f'--flagfile={path}'], '')
    text = path.read_text()
    header, *flags = [part for part in text.partition('\n--')[::2] if part]
    assert all(line.startswith('#') for line in header.splitlines())
    assert f'#   python -m glr_jax.train --flagfile=experiments/{path.name}' in header
    assert '2 CPU cores' in header
    cli.need(found, 'workdir', 'data.dir')
    assert len(flags[0].splitlines()) <= 6 or path.stem == 'gtzan_paper'  # states everything
    baseline = {'cnn': ('cnn', 'batch'), 'rnn': ('rnn', 'batch'), 'cnn_rnn': ('crnn', 'batch')}
    assert (found.model.kind, found.model.norm) == baseline.get(path.stem, ('crnn', 'glr'))
