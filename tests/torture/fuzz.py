"""Broken input for every parser, made by hypothesis from whole files and from nothing.

A parser gives a result or raises one of the errors that commands show as one line. It takes less
than `LONGEST` seconds, and the process less than `MOST` bytes more than at its start.
"""

import dataclasses
import functools
import os
import resource
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from glr_jax.data.example import ExampleError
from glr_jax.data.tfrecord import CorruptRecordError
from glr_jax.errors import ClipError, UserError
from tests.torture import commands
from tests.torture.outcomes import Row, is_one_line
from tests.torture.parsers import Parser, all_parsers

LONGEST = 5.0  # seconds of the processor per input
MOST = 2 << 30
_ONE_LINE = (UserError, ClipError, CorruptRecordError, ExampleError)
_TOKENS = [
    *(b'', b'\0', b'\xff' * 4, b'\n', b'\r', b'"', b"'", b',', b';', b'\t', b'#', b'=', b'--'),
    *(b'\xef\xbb\xbf', b'\xff\xfe', b'\xc3', b'\xed\xa0\x80', b'NaN', b'1e999', b'-1', b'9' * 5000),
    *(b'[' * 3000, b'{', b'}', b'null', b'true', b'../..', b'/etc/passwd', b'$X', b'~', b'\x1b[2J'),
    *(b'train', b'TEST', b'id', b'path', b'label', b'\x7f\xff\xff\xff', b'\xff' * 8, b'\x80' * 10),
]


def fuzz_all(folder: str, count: int, seed: int) -> list[Row]:
    """About `count` inputs in all, in one child with limited memory."""
    commands.trained(folder)
    flags = commands.preparing(os.path.join(folder, 'source.npz'), os.path.join(folder, 'part'))
    commands.run('data_prep', [*flags, '--shard_range=0:1'])

    def body() -> list[dict[str, Any]]:
        used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MOST, used + MOST))
        parsers = all_parsers(Path(folder))
        each = count / sum(parser.share for parser in parsers)
        rows = [_fuzz(parser, max(1, round(each * parser.share)), seed) for parser in parsers]
        return [dataclasses.asdict(row) for row in rows]

    ended = commands.in_child(body, longest=0)
    if ended.value is None:
        raise RuntimeError(f'the process died: {ended.said}')
    shown = (line for line in ended.said.splitlines() if line.startswith('fuzz: '))
    os.write(2, ''.join(f'{line}\n' for line in shown).encode())
    return [Row(**values) for values in ended.value]


def _fuzz(parser: Parser, count: int, seed: int) -> Row:
    row = Row(f'fuzz: {parser.name}')

    @seeded(seed)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_inputs(parser.seeds))
    def attempt(content: bytes) -> None:
        row.tried += 1
        _try(row, parser, content)

    attempt()
    return row


def _try(row: Row, parser: Parser, content: bytes) -> None:
    start, shown = time.process_time(), repr(content[:200])
    signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(60)
    try:
        parser.read(content)
    except _ONE_LINE as error:
        if not is_one_line(str(error)):
            row.fails('tracebacks', f'not one line: {error!r} for {shown}')
    except Exception as error:
        row.fails('tracebacks', f'{type(error).__name__}: {str(error)[:200]} for {shown}')
    finally:
        signal.alarm(0)
    took = time.process_time() - start
    if took > LONGEST:
        row.fails('lost', f'{took:.1f} s for {shown}')


def _hangs(*_: Any) -> None:
    raise TimeoutError('took more than a minute')


def _inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Whole inputs with a few changes; some of any bytes or any text."""
    place = st.floats(0, 1)
    change = st.one_of(
        st.tuples(st.just('flip'), place, st.integers(0, 7)),
        st.tuples(st.just('insert'), place, st.one_of(st.sampled_from(_TOKENS), st.binary())),
        st.tuples(st.just('replace'), place, st.one_of(st.sampled_from(_TOKENS), st.binary())),
        st.tuples(st.just('remove'), place, place),
        st.tuples(st.just('repeat'), place, place),
        st.tuples(st.just('cut'), place, place),
    )
    mutated = st.builds(
        lambda whole, changes: functools.reduce(_changed, changes, whole),
        st.sampled_from(list(seeds)),
        st.lists(change, min_size=1, max_size=6),
    )
    text = st.text(max_size=200).map(lambda text: text.encode('utf-8', 'surrogatepass'))
    return st.one_of(mutated, mutated, mutated, mutated, st.binary(max_size=400), text)


def _changed(content: bytes, change: tuple[str, float, Any]) -> bytes:
    kind, place, value = change
    at = int(place * len(content))
    match kind:
        case 'flip' if at < len(content):
            return content[:at] + bytes([content[at] ^ 1 << value]) + content[at + 1 :]
        case 'insert':
            return content[:at] + value + content[at:]
        case 'replace':
            return content[:at] + value + content[at + len(value) :]
        case 'remove':
            return content[:at] + content[at + int(value * (len(content) - at)) :]
        case 'repeat' if len(content) < 1 << 20:
            return content[:at] + content[int(value * at) :]
        case 'cut':
            return content[:at]
    return content
