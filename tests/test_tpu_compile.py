"""The TPU's compiler, where it is installed; the counting, everywhere."""

import importlib.util
import subprocess
import sys

import pytest

from experiments import tpu_compile

HLO = """
%body (...) -> ... {
  %a = (f32[8]{0}, f32[8]{0}) all-reduce(%x, %y), channel_id=1
}
ENTRY %main (...) -> ... {
  %b = f32[2,100]{1,0} all-reduce-start(%z), channel_id=2
  %c = f32[2,100]{1,0} all-reduce-done(%b)
  %d = f32[]{:T(128)} all-reduce(%w), channel_id=3
}
"""


def test_all_reduces_in_the_loop_count_for_every_micro_batch() -> None:
    assert tpu_compile.exchanged(HLO, accumulate=1) == (3, 4 * (16 + 200 + 1))
    assert tpu_compile.exchanged(HLO, accumulate=4) == (6, 4 * (4 * 16 + 200 + 1))


@pytest.mark.skipif(not importlib.util.find_spec('libtpu'), reason='no libtpu here')
def test_the_train_step_compiles_for_a_tpu_slice() -> None:
    flags = ['--slices=2x2', '--frames=16', '--clips=4', '--model.kernels=8', '--model.hidden=8']
    command = [sys.executable, '-m', 'experiments.tpu_compile', *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    glr, synchronised = (
        [cell.strip() for cell in line.split('|')[1:-1]] for line in done.stdout.splitlines()[2:]
    )
    assert glr[:3] == ['2x2', 'glr', '16']
    assert (glr[5], synchronised[5]) == ('1', '5')
