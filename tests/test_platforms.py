"""Where the devices are known, only their branch is traced, and no other trace is affected."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from glr_jax import platforms
from glr_jax.nn.conv import conv

CPUS = np.asarray(jax.devices())


def test_a_program_for_cpus_traces_only_their_branch() -> None:
    traced = []

    def branch(name: str) -> Callable[[Array], Array]:
        return lambda x: (traced.append(name), x + len(name))[1]

    def program(x: Array) -> Array:
        assert platforms.may_be('cpu')
        others = {'cuda': branch('cuda'), 'default': branch('others')}
        return platforms.dependent(x, cpu=branch('cpu'), **others)

    assert jax.jit(platforms.traced_for(CPUS, program))(1.0) == 4
    assert traced == ['cpu']
    assert jax.jit(program)(1.0) == 4
    assert sorted(traced[1:]) == ['cpu', 'cuda', 'others']
    assert platforms.may_be('cuda')


@pytest.mark.parametrize('first', ['for CPUs', 'for any'])
def test_a_trace_for_cpus_is_not_used_for_another_platform(first: str) -> None:
    convolve = lambda x, kernel: jnp.square(conv(x, kernel)).sum()
    arrays = np.zeros((1, 9, 64), np.float32), np.zeros((3, 64, 64), np.float32)
    alone = jax.jit(platforms.traced_for(CPUS, jax.grad(convolve, (0, 1))))
    for_any = jax.jit(jax.grad(convolve, (0, 1)))
    for program in (alone, for_any) if first == 'for CPUs' else (for_any, alone):
        program.trace(*arrays)
    slides = 'stablehlo.convolution'  # on a CPU, Winograd's algorithm takes its place
    assert slides in for_any.trace(*arrays).lower(lowering_platforms=('tpu',)).as_text()
    assert slides not in alone.trace(*arrays).lower().as_text()
