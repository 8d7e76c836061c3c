"""The notebook: its code runs from top to bottom, and what it shows was made by running it."""

import ast
import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from data_prep import demo_clips
from tests.documents import ROOT

NOTEBOOK = ROOT / 'experiments' / 'tour.ipynb'


def cells() -> list[dict[str, Any]]:
    found = json.loads(NOTEBOOK.read_text())['cells']
    return [cell for cell in found if cell['cell_type'] == 'code']


def code_of(cell: dict[str, Any]) -> str:
    return ''.join(cell['source'])


@pytest.mark.slow
def test_the_notebook_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_clips, 'CLIPS_PER_STYLE', 10)
    matplotlib.use('Agg')
    names: dict[str, Any] = {}
    for cell in cells():
        code = code_of(cell).replace('EPOCHS = 20', 'EPOCHS = 1')
        exec(compile(ast.parse(code), str(NOTEBOOK), 'exec'), names)
    assert 'test accuracy' in capfd.readouterr().out
    assert names['prediction'].embedding.ndim == 1


def test_the_notebook_was_run_from_top_to_bottom() -> None:
    counts = [cell['execution_count'] for cell in cells()]
    assert counts == list(range(1, len(counts) + 1))
    assert not any(output['output_type'] == 'error' for c in cells() for output in c['outputs'])
    assert NOTEBOOK.stat().st_size < 400_000
