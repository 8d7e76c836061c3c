"""The files of compiled programs: written whole, verified when read, replaced if damaged.

JAX's own cache writes an entry in place and never replaces one, so a full disk leaves empty entries
that are read with a warning at every start.
"""

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

import google_crc32c

from glr_jax import storage

SUFFIX = '-glr-cache'  # JAX's own entries, without a checksum, end with `-cache`
_CHECKSUM_BYTES = 4


class WholeCache:
    """A folder of entries, each followed by its CRC-32C; several processes may share it.

    A folder that is full or read-only is no reason to stop or to warn: the program is compiled.
    It has the methods of `jax._src.compilation_cache_interface.CacheInterface`.
    """

    def __init__(self, folder: str):
        self._path = folder

    def get(self, key: str) -> bytes | None:
        """The entry of a key; None if there is none, or a damaged one, which is then removed."""
        path = self._file(key)
        with contextlib.suppress(OSError):
            with open(path, 'rb') as file:
                content = file.read()
            value, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
            if value and checksum == _checksum(value):
                return value
            os.remove(path)
        return None

    def put(self, key: str, value: bytes) -> None:
        """Writes an entry, if it can be written."""
        path = self._file(key)
        if not os.path.exists(path):
            with (
                contextlib.suppress(OSError),
                storage.to_write(path, durable=False) as partial,
                open(partial, 'wb') as file,
            ):
                file.write(value + _checksum(value))

    def _file(self, key: str) -> str:
        return os.path.join(self._path, key + SUFFIX)


def use(folder: str) -> None:
    """Makes JAX keep compiled programs in a folder."""
    import jax

    jax.config.update('jax_compilation_cache_dir', folder)
    # Dozens of small programs together take longer to compile than the large one.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
    with contextlib.suppress(ImportError, AttributeError):  # another JAX: its own cache
        from jax._src import compilation_cache

        usual = compilation_cache.get_file_cache
        if not isinstance(usual, functools.partial):  # it is ours after the first call
            compilation_cache.get_file_cache = functools.partial(_file_cache, usual)


def _file_cache(usual: Callable[[str], Any], path: str) -> Any:
    """The cache for a folder; `usual` makes JAX's own one, which can limit its size."""
    import jax

    if storage.is_remote(path) or getattr(jax.config, 'jax_compilation_cache_max_size', -1) != -1:
        return usual(path)
    return WholeCache(path), path


def _checksum(value: bytes) -> bytes:
    return google_crc32c.value(value).to_bytes(_CHECKSUM_BYTES, 'little')
