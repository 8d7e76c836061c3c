"""The paper's settings: flagfiles, code and the studies agree, and follow no defaults."""

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments import gpu_compile, paper, search, tpu_compile
from experiments.reproduce import __main__ as reproduce
from experiments.throughput import __main__ as throughput
from glr_jax import cli, config, flagfiles
from glr_jax.config import Config

ROOT = Path(__file__).parents[1]
SECTIONS = {'data': 'DATA', 'model': 'MODEL', 'train': 'TRAIN', 'augment': 'AUGMENT'}
# Fields that say where the clips are, that change no results, or that do nothing here.
NOT_STATED = {
    *('data.dir', 'data.split'),
    *('model.window', 'model.window_hop', 'model.projection'),
    *('augment.time_mask', 'augment.band_mask'),
}


def parsed(name: str) -> Config:
    return cli.parse(Config, ['train', f'--flagfile={ROOT}/experiments/{name}.flags'], '')


def settings() -> Iterator[str]:
    """Every flag that changes the results of the paper's model."""
    for section in dataclasses.fields(Config):
        if section.name in SECTIONS:
            for field in dataclasses.fields(section.default_factory()):  # type: ignore[misc]
                name = f'{section.name}.{field.name}'
                if field.name not in config.WITHOUT_EFFECT and name not in NOT_STATED:
                    yield name


def test_the_flagfile_and_the_code_state_the_same_settings() -> None:
    found = parsed('gtzan_paper')
    for section, name in SECTIONS.items():
        ours = {'dir': '', 'split': 'random-1'} if section == 'data' else {}
        expected = getattr(paper, name)
        assert dataclasses.replace(getattr(found, section), **ours) == expected, section


def test_every_setting_is_stated_in_the_flagfile() -> None:
    lines = flagfiles.expand([f'--flagfile={ROOT}/experiments/gtzan_paper.flags'])
    stated = {line.partition('=')[0].removeprefix('--') for line in lines}
    assert set(settings()) <= stated, 'state the new flags in gtzan_paper.flags and paper.py'


def test_every_setting_is_stated_in_the_code() -> None:
    tree = ast.parse((ROOT / 'experiments' / 'paper.py').read_text())
    stated = set()
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(keywords=keywords)):
                section = next(key for key, value in SECTIONS.items() if value == name)
                stated |= {f'{section}.{keyword.arg}' for keyword in keywords}
    assert set(settings()) <= stated, 'state the new flags in gtzan_paper.flags and paper.py'


def test_every_section_of_the_config_is_stated() -> None:
    others = {'workdir', 'seed', 'profile', 'baselines', 'parallel'}
    others |= {'init_from', 'allow_changed_data'}  # of a single run
    assert {field.name for field in dataclasses.fields(Config)} == set(SECTIONS) | others


@pytest.mark.parametrize(
    ('name', 'model'), [('cnn', 'cnn'), ('rnn', 'rnn'), ('cnn_rnn', 'cnn-rnn')]
)
def test_the_baselines_differ_in_kind_and_norm_only(name: str, model: str) -> None:
    found, proposed = parsed(name), parsed('gtzan_paper')
    assert found.model == reproduce.architecture(paper.MODEL, model)
    assert found.workdir != proposed.workdir
    same = dataclasses.replace(found, model=proposed.model, workdir=proposed.workdir)
    assert same == proposed


def test_fma_differs_in_the_data_and_the_epochs_only() -> None:
    found, gtzan = parsed('fma_paper'), parsed('gtzan_paper')
    assert (found.model, found.augment) == (gtzan.model, gtzan.augment)
    assert dataclasses.replace(found.train, epochs=50) == gtzan.train


@pytest.mark.parametrize(
    ('study', 'sections'),
    [
        (reproduce.Reproduction, 'data model train augment'),
        (search.Search, 'data model train augment'),
        (throughput.Throughput, 'data model'),
        (tpu_compile.TpuCompile, 'model'),
        (gpu_compile.GpuCompile, 'model'),
    ],
)
def test_the_studies_of_the_paper_start_from_its_settings(study: Any, sections: str) -> None:
    made, from_flags = study(), cli.parse(study, ['x'], '')
    for section in sections.split():
        expected = getattr(paper, SECTIONS[section])
        assert getattr(made, section) is expected
        assert getattr(from_flags, section) == expected
