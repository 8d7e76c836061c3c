"""Counting in compiled programs; and the TPU compiler, if it is installed."""

import importlib.util
import subprocess
import sys

import pytest

from experiments import hlo, tpu_compile
from glr_jax.errors import UsageError

HLO = """
%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}
%body (in: (s32[])) -> (s32[]) {
  %a = (f32[8]{0}, f32[8]{0}) all-reduce(%x, %y), channel_id=1, to_apply=%add
  %f = f32[8]{0} fusion(%a), backend_config={"window_config":{"estimated_cycles":"10"}}
}
%condition.1 (in: (s32[])) -> pred[] {
  %turns = s32[]{:T(128)} constant(4), metadata={}
  ROOT %less = pred[] compare(%in, %turns), direction=LT
}
ENTRY %main (in: f32[2,100]) -> f32[] {
  %loop = (s32[]) while(%in), condition=%condition.1, body=%body, metadata={}
  %b = f32[2,100]{1,0} all-reduce-start(%z), channel_id=2, to_apply=%add
  %c = f32[2,100]{1,0} all-reduce-done(%b)
  %d = f32[]{:T(128)} all-reduce(%w), channel_id=3, to_apply=%add
  %g = f32[8]{0} fusion(%d), backend_config={"window_config":{"estimated_cycles":"7"}}
}
"""


def test_a_loop_counts_once_per_iteration() -> None:
    exchanged = 4 * (4 * 16 + 200 + 1)
    assert hlo.total(HLO, tpu_compile.count) == {
        'cycles': 4 * 10 + 7,
        'all_reduces': 6,
        'bytes': exchanged,
    }


@pytest.mark.skipif(not importlib.util.find_spec('libtpu'), reason='libtpu is not installed')
def test_a_device_does_the_same_work_on_every_slice() -> None:
    flags = ['--slices=2x2,4x4,16x16', '--frames=64', '--clips=4', '--model.kernels=8']
    command = [sys.executable, '-m', 'experiments.tpu_compile', *flags, '--model.hidden=8']
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in done.stdout.splitlines()]
    rows = [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
    assert [row.pop('slice') for row in rows] == ['2x2', '2x2', '4x4', '4x4', '16x16', '16x16']
    assert [row.pop('clips per step') for row in rows] == ['16', '16', '64', '64', '1024', '1024']
    glr, synchronised = rows[0::2], rows[1::2]
    assert glr[0] == glr[1] == glr[2]
    assert synchronised[0] == synchronised[1] == synchronised[2]
    assert (glr[0]['all-reduces'], synchronised[0]['all-reduces']) == ('1', '5')
    assert float(glr[0]['Mcycles']) > 0


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--norms=glr,glrr'], 'glrr is not one of glr'),
        (['--frames=8', '--model.pool=4'], '--frames=8 is too short'),
        (['--model.conv=2d', '--model.pool=16', '--frames=640'], '--model.pool reduces'),
        (['--clips=5', '--accumulate=2'], '--clips=5 is not a multiple of --accumulate=2'),
        (['--model.norm=none'], '--model.norm .* --norms'),
    ],
)
def test_bad_flags_are_named_before_anything_is_compiled(flags: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        tpu_compile.main(['tpu_compile', *flags])
