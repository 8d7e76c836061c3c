"""Counting kernels in compiled programs; and the CUDA compiler, if it is installed."""

import importlib.util
import subprocess
import sys

import pytest

from experiments import gpu_compile, hlo
from glr_jax.errors import UsageError

HLO = """
HloModule jit_program

%body.1 (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%p), index=1
  %y = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused
  %z = f32[8]{0} custom-call(%y), custom_call_target="gemm"
  ROOT %t = (s32[], f32[8]{0}) tuple(%i, %z)
}

%graph (q: f32[8]) -> f32[8] {
  %q = f32[8]{0} parameter(0)
  ROOT %w = (s32[], f32[8]{0}) while(%q), condition=%c, body=%body.1, backend_config={"known_trip_count":{"n":"20"}}
}

ENTRY %main.2 (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %b = f32[8]{0:T(128)} copy(%a)
  %s = ((f32[8]), f32[8], s32[]) fusion-start(%a), calls=%fused
  %d = f32[8]{0} fusion-done(%s)
  ROOT %r = f32[8]{0} call(%b), to_apply=%graph
}
"""  # noqa: E501


def test_kernels_in_a_loop_count_once_per_iteration() -> None:
    assert hlo.total(HLO, gpu_compile.count) == {'started': 2 + 20 * 2}


@pytest.mark.skipif(
    not importlib.util.find_spec('jax_plugins'), reason='the CUDA plugin is not installed'
)
@pytest.mark.parametrize('triton', ['true', 'false'])
def test_the_fused_recurrence_starts_fewer_kernels(triton: str) -> None:
    flags = ['--dtypes=bfloat16', '--frames=320', '--clips=4', '--model.kernels=8']
    flags.append(f'--triton={triton}')
    command = [sys.executable, '-m', 'experiments.gpu_compile', *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    scan, fused = (int(line.split('|')[3]) for line in done.stdout.splitlines()[2:])
    assert 0 < fused < scan / 3


@pytest.mark.parametrize(
    ('flag', 'words'),
    [
        ('--dtypes=float32,float16', 'float16 is not one of float32'),
        ('--recurrences=scan,loop', 'loop is not one of auto, scan'),
        ('--model.pool=32', '--frames=640 is too short'),
        ('--model.dtype=bfloat16', '--model.dtype .* --dtypes'),
    ],
)
def test_bad_flags_are_named_before_anything_is_compiled(flag: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        gpu_compile.main(['gpu_compile', flag])
