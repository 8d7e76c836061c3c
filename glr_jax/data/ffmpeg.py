"""Audio that libsndfile cannot read (m4a, aac, wma, webm, ...), decoded by the program ffmpeg."""

import contextlib
import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

from glr_jax.data.limits import MAX_SECONDS
from glr_jax.errors import ClipError, UnreadableError

FFMPEG_SUFFIXES = frozenset(
    {
        *('.m4a', '.m4b', '.mp4', '.aac', '.wma', '.webm', '.weba', '.mka', '.3gp', '.amr'),
        *('.ape', '.wv', '.tta', '.tak', '.mpc', '.ac3', '.dsf', '.mp2', '.spx'),
    }
)
INSTALL = "install ffmpeg, or its wheel with: pip install -e '.[ffmpeg]'"
MAX_WALL_SECONDS = 600  # per file
MAX_BYTES = 4 << 30  # of a file
MAX_BLOCK = 256 << 20  # bytes that ffmpeg may allocate at once
# Containers that hold sound. Playlists are left out, since they name other files and addresses.
_FORMATS = (
    'aac,ac3,amr,ape,asf,caf,dsf,eac3,flac,matroska,webm,mov,mp4,m4a,3gp,mp3,mpc,mpc8,ogg,tak,'
    'tta,wav,w64,wv'
)
_HEADER = struct.Struct('>4s5I')  # of an AU file: magic, offset, size, encoding, rate, channels


class Decoded(NamedTuple):
    """What ffmpeg writes: float32 samples, big-endian, channel by channel in each frame.

    Attributes:
      rate: in Hz, as in the file.
      channels: number of channels.
      samples: the stream to read them from.
      finish: to be called at its end; raises `ClipError` if ffmpeg was killed or took too long.
    """

    rate: int
    channels: int
    samples: IO[bytes]
    finish: Callable[[], None]


def find() -> str | None:
    """The path of ffmpeg: from PATH, or from the optional package imageio-ffmpeg."""
    found = shutil.which('ffmpeg')
    if found:
        return found
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # RuntimeError: the package has no program for this system
        return None


@contextlib.contextmanager
def decode(program: str, path: str) -> Iterator[Decoded]:
    """Starts ffmpeg on the first sound track of a local file; it ends with the `with` block.

    Args:
      program: the path of ffmpeg.
      path: the file; a name that looks like an address or an option is a file all the same.

    Raises:
      ClipError: the file is too large, is not audio, or takes too long.
    """
    if os.path.getsize(path) > MAX_BYTES:
        raise ClipError(f'is larger than {MAX_BYTES >> 30} GiB, the limit for ffmpeg; split it')
    command = [
        *(program, '-nostdin', '-hide_banner', '-loglevel', 'quiet', '-threads', '1'),
        *('-max_alloc', str(MAX_BLOCK), '-protocol_whitelist', 'file,pipe'),
        *('-format_whitelist', _FORMATS, '-i', f'file:{os.path.abspath(path)}'),
        *('-map', '0:a:0', '-t', str(MAX_SECONDS + 1)),
        *('-c:a', 'pcm_f32be', '-f', 'au', 'pipe:1'),
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not for ffmpeg: the clip would seem to end there
    )
    assert process.stdout is not None
    late = threading.Event()

    def give_up() -> None:
        late.set()
        process.kill()

    def finish() -> None:
        killed = process.wait() < 0
        if late.is_set():
            raise ClipError(f'took ffmpeg more than {MAX_WALL_SECONDS} s')
        if killed:
            raise UnreadableError('cannot be read: ffmpeg was killed')

    timer = threading.Timer(MAX_WALL_SECONDS, give_up)
    timer.daemon = True
    timer.start()
    try:
        header = process.stdout.read(_HEADER.size)
        if len(header) < _HEADER.size:
            finish()
            raise ClipError('cannot be decoded as audio, not even by ffmpeg')
        _, offset, _, _, rate, channels = _HEADER.unpack(header)
        process.stdout.read(offset - _HEADER.size)
        yield Decoded(rate, channels, process.stdout, finish)
    finally:
        timer.cancel()
        process.kill()
        process.stdout.close()
        process.wait()
