"""Compiled programs are kept on disk: the second start of a run does not compile again."""

import os

import jax


def keep() -> None:
    """Keeps compiled programs in the user's cache folder; before JAX has compiled anything.

    `JAX_COMPILATION_CACHE_DIR` names another folder, and `JAX_ENABLE_COMPILATION_CACHE=false`
    keeps none. JAX finds a program by all that it depends on, the kind of processor too, so one
    folder serves several machines. A folder that cannot be written is no reason to stop.
    """
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    folder = os.environ.get('JAX_COMPILATION_CACHE_DIR') or os.path.join(cache, 'glr_jax')
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        jax.config.update('jax_enable_compilation_cache', False)
        return
    jax.config.update('jax_compilation_cache_dir', folder)
    # A start compiles dozens of small programs, too: together they take longer than the large one.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
