"""What a command does before JAX computes anything: huge pages, cached programs."""

import os
import sys

_TUNABLES = 'GLIBC_TUNABLES'


def restart_with_huge_pages() -> None:
    """Restarts the running command, as the same process, so that glibc uses pages of 2 MB.

    XLA allocates the arrays of each step anew, and Linux zeroes each page on its first touch: with
    pages of 4 KB that takes up to a third of a train step on a CPU. glibc (2.35 or newer) reads the
    setting only when a process starts. If GLIBC_TUNABLES is set already, nothing happens.

    For a command to call before it imports JAX, which would otherwise be imported twice.
    """
    if sys.platform == 'linux' and sys.executable and _TUNABLES not in os.environ:
        os.environ[_TUNABLES] = 'glibc.malloc.hugetlb=1'
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


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

    cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    folder = os.environ.get('JAX_COMPILATION_CACHE_DIR') or os.path.join(cache, 'glr_jax')
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        jax.config.update('jax_enable_compilation_cache', False)
        return
    jax.config.update('jax_compilation_cache_dir', folder)
    # Dozens of small programs together take longer to compile than the large one.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
