"""Code that differs by the platform that JAX compiles for; only what is needed is traced.

`lax.platform_dependent` traces and differentiates every branch, although a program for one platform
uses only one. Where the devices are known to be CPUs, the others are left out, which can save a
third of the trace.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

# The only platform that a program is traced for; '': any. A part of the key of JAX's caches, so a
# trace for one platform is not used for another.
_only = jax.make_user_context('')


def traced_for(devices: Any, program: Callable[..., Any]) -> Callable[..., Any]:
    """A program that is traced for the platform of some devices, if these are CPUs.

    GPUs have several platforms (CUDA, ROCm), and with accelerators a start is no matter of tenths
    of a second.

    Args:
      devices: those that will run it, an array of them.
      program: to be traced by `jax.jit`.
    """
    on_cpu = all(device.platform == 'cpu' for device in devices.flat)

    @functools.wraps(program)
    def traced(*arguments: Any) -> Any:
        with _only('cpu' if on_cpu else ''):
            return program(*arguments)

    return traced


def may_be(platform: str) -> bool:
    """Whether the program that is being traced may be compiled for a platform."""
    return _only.value in ('', platform)


def dependent(*arguments: Any, default: Callable[..., Any], **branches: Callable[..., Any]) -> Any:
    """As `lax.platform_dependent`: what the branch of the platform gives for the arguments."""
    if _only.value:
        return branches.get(_only.value, default)(*arguments)
    return lax.platform_dependent(*arguments, default=default, **branches)
