"""What a command does before JAX computes anything: huge pages, caches, devices."""

import contextlib
import os
import re
import sys

from glr_jax import caches, signals
from glr_jax.devices import compile_cache
from glr_jax.errors import UserError

_TUNABLES = 'GLIBC_TUNABLES'


def restart_with_huge_pages() -> None:
    """Restarts the running command, as the same process, so that glibc uses pages of 2 MB.

    XLA allocates the arrays of each step anew, and Linux zeroes each page on its first touch: with
    pages of 4 KB that takes up to a third of a train step on a CPU. glibc (2.35 or newer) reads the
    setting only when a process starts. If GLIBC_TUNABLES is set already, nothing restarts. Where a
    process may not restart, it continues without.

    Also finds libraries a folder for their caches, see `caches`. For a command to call before it
    imports JAX, which would otherwise be imported twice.
    """
    if sys.platform == 'linux' and sys.executable and _TUNABLES not in os.environ:
        os.environ[_TUNABLES] = 'glibc.malloc.hugetlb=1'
        signals.block()  # until the restarted command can answer; see cli.check_command_line
        with contextlib.suppress(OSError):
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
        del os.environ[_TUNABLES]
        signals.unblock()
    caches.use_writable()


def is_command_of(package: str) -> bool:
    """Whether this process was started as `python -m PACKAGE...`; modules included."""
    arguments = sys.orig_argv[1:]
    if '-m' not in arguments[:-1]:
        return False
    return arguments[arguments.index('-m') + 1].split('.')[0] == package


def enable_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that a second start need not compile them again.

    Programs go to `~/.cache/glr_jax`; JAX_COMPILATION_CACHE_DIR names another folder, and
    JAX_ENABLE_COMPILATION_CACHE=false keeps none. JAX identifies a program by everything that it
    depends on, including the processor, so several machines may share a folder. If the folder
    cannot be written, the command runs without a cache.
    """
    import jax

    folder = os.environ.get('JAX_COMPILATION_CACHE_DIR')
    if not folder:
        cache = caches.user_folder('XDG_CACHE_HOME', '.cache')
        folder = cache and os.path.join(cache, 'glr_jax')
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        jax.config.update('jax_enable_compilation_cache', False)
        return
    compile_cache.use(folder)


def check_devices() -> None:
    """Starts JAX with 32-bit numbers, whatever JAX_ENABLE_X64 says; the kernels are made for them.

    For a command to call once it has joined the other processes.

    Raises:
      UserError: JAX finds no device, as with JAX_PLATFORMS=cuda on a machine without a GPU.
    """
    import jax

    jax.config.update('jax_enable_x64', False)
    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that a named platform started
        platforms = os.environ.get('JAX_PLATFORMS', '')
        cause = f'JAX_PLATFORMS={platforms}: ' if platforms else ''
        reason = _reason(str(error)) or f'no {platforms} device, or no jaxlib for it'
        raise UserError(
            f'{cause}JAX cannot start: {reason}; set JAX_PLATFORMS=cpu, or unset it to use the '
            'devices of this machine'
        ) from None


def _reason(message: str) -> str:
    """Why JAX could not start, without its own advice, which is another one than ours."""
    first = re.sub(r' *\(set JAX_PLATFORMS=.*?\)', '', message.partition('\n')[0])
    if unknown := re.search(
        r"Backend '(.*)' is not in the list of known backends: \[(.*)\]", first
    ):
        return f'it has no platform {unknown[1]} here, only {unknown[2].replace(chr(39), "")}'
    return first
