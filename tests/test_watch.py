"""Versions of JAX that keep their connection elsewhere; all else is in test_processes."""

import sys
from types import SimpleNamespace
from typing import Any

import jax
import pytest
from jax._src import distributed

from glr_jax.devices import watch


@pytest.fixture
def news(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a process knows at its start."""
    news = watch._News()
    monkeypatch.setattr(watch, '_news', news)
    return news


def check_that_nothing_is_watched(news: Any, err: str) -> None:
    assert err == (
        f'glr_jax.train: with jax {jax.__version__}, a process that fails or no longer answers is '
        'noticed later, by JAX itself\n'
    )
    assert not news.limit
    watch.failed('failed: a reason')  # tells nobody, at once


def test_a_missing_module_costs_the_beats_only(
    news: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, 'jax._src.distributed', None)
    monkeypatch.delattr('jax._src.distributed')
    watch.start(10)
    check_that_nothing_is_watched(news, capsys.readouterr().err)


@pytest.mark.parametrize(
    'state',
    [
        SimpleNamespace(),
        SimpleNamespace(process_id=1, num_processes=2),
        SimpleNamespace(process_id=1, num_processes=2, client=SimpleNamespace()),
    ],
)
def test_a_missing_attribute_costs_the_beats_only(
    state: Any, news: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(distributed, 'global_state', state)
    watch.start(10)
    check_that_nothing_is_watched(news, capsys.readouterr().err)


@pytest.mark.parametrize(('process', 'name'), [(None, 'this process'), (1, 'process 1')])
def test_a_process_that_ends_says_so_even_if_it_does_not_know_its_number(
    process: int | None,
    name: str,
    news: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(watch, '_ending', SimpleNamespace(acquire=lambda: None))
    monkeypatch.setattr('os._exit', lambda code: None)
    news.process = process
    watch.end('lost the others')
    expected = f'glr_jax.train: {name} lost the others; run the same command again to resume\n'
    assert capsys.readouterr().err == expected
