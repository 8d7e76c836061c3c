"""Where a result comes from: flags to paste, versions, hardware, time, files."""

import dataclasses
import importlib.metadata
import os
import platform
import shlex
from collections.abc import Iterator
from typing import Any

from glr_jax.config import Config
from glr_jax.data.other_data import ALL
from glr_jax.fields import text_of
from glr_jax.nn import cost
from glr_jax.page.audio_links import link
from glr_jax.page.evidence import Evidence
from glr_jax.page.markup import definitions, plain
from glr_jax.storage import same_folder
from glr_jax.text import counted, printable

ALWAYS = ('workdir', 'seed', 'data.dir', 'data.split')  # shown at their defaults too
_LIBRARIES = ('glr-jax', 'jax', 'jaxlib', 'flax', 'optax', 'numpy', 'librosa', 'scipy')


def section(
    scores: dict[str, Any],
    config: Config,
    epochs: list[dict[str, Any]],
    evidence: Evidence | None,
    folder: str,
) -> str:
    """Commands, environment and files.

    Args:
      scores: as in `metrics.json`.
      config: of the run; of a folder of runs, that of the first.
      epochs: rows of its `metrics.jsonl`.
      evidence: the clips that were scored; None if they are not at hand.
      folder: of the page.
    """
    several = 'runs' in scores
    facts = []
    if not several:
        facts.append(('Training', _training(config, epochs)))
    if evidence is not None:
        facts.append(('Cost', _cost(config, evidence, several)))
    facts += [
        ('Hardware', _hardware(evidence)),
        ('Versions', _versions()),
        ('Files', _files(config, folder)),
    ]
    return f'{_commands(scores, config, several)}{definitions(facts)}'


def flags(config: Any, defaults: Any, prefix: str = '') -> Iterator[str]:
    """The flags of a config that differ from the defaults, and those that say which run it is."""
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), getattr(defaults, field.name)
        name = prefix + field.name
        if dataclasses.is_dataclass(value):
            yield from flags(value, default, f'{name}.')
        elif value != default or name in ALWAYS:
            text = text_of(value).lower() if isinstance(value, bool) else text_of(value)
            yield f'--{name}={quoted(text)}'


def quoted(text: str) -> str:
    """A text as a POSIX shell takes it; characters that a page cannot show become escapes."""
    if printable(text) == text:
        return shlex.quote(text)
    escaped = text.replace('\\', '\\\\').replace("'", "\\'")
    shown = (chr(b) if 32 <= b < 127 else f'\\{b:03o}' for b in os.fsencode(escaped))
    return f"$'{''.join(shown)}'"


def _commands(scores: dict[str, Any], config: Config, several: bool) -> str:
    workdir = f'--workdir={quoted(config.workdir)}'
    scored = ' '.join(['python -m glr_jax.evaluate', workdir, *_choice(scores, config)])
    board = config.workdir if several else os.path.join(config.workdir, 'tensorboard')
    lines = [('Score again', scored)]
    if several:
        lines.insert(
            0,
            ('Flags and curves of the runs', f'python -m glr_jax.compare {quoted(config.workdir)}'),
        )
    else:
        given = ' \\\n  '.join(['python -m glr_jax.train', *flags(config, Config())])
        lines.insert(
            0,
            (
                'Train again, with another --workdir; flags that are not shown have their defaults',
                given,
            ),
        )
    lines += [
        ('Tag a file', f'python -m glr_jax.predict {workdir} song.mp3'),
        ('Curves in TensorBoard', f'pip install tensorboard\ntensorboard --logdir={quoted(board)}'),
    ]
    return ''.join(f'<h3>{title}</h3><pre>{plain_lines(text)}</pre>' for title, text in lines)


def _choice(scores: dict[str, Any], config: Config) -> Iterator[str]:
    """The flags of `evaluate` for clips other than the run's own."""
    other = not same_folder(scores['dataset'], config.data.dir)
    if other:
        yield f'--data.dir={quoted(scores["dataset"])}'
    if scores['split'] != config.data.split and not (other and scores['split'] == ALL):
        yield f'--data.split={quoted(scores["split"])}'
    if 'test_crops' in scores:
        yield f'--data.test_crops={scores["test_crops"]}'


def plain_lines(text: str) -> str:
    """Lines of a command as HTML."""
    return '\n'.join(map(plain, text.split('\n')))


def _training(config: Config, epochs: list[dict[str, Any]]) -> str:
    parts = [f'seed {config.seed}']
    if epochs:
        parts.append(counted(epochs[-1]['epoch'], 'epoch'))
        seconds, speed = (_number(epochs[-1], key) for key in ('seconds', 'clips_per_second'))
        parts += [_clock(seconds)] * (seconds > 0) + [f'{speed:,.0f} clips/s'] * (speed > 0)
    return ', '.join(parts)


def _number(row: dict[str, Any], key: str) -> float:
    """A value of the log; 0 if it is missing, as in older logs, or no sensible number."""
    value = row.get(key)
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e12 else 0.0


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f'{seconds:.0f} seconds'
    hours, minutes = divmod(round(seconds / 60), 60)
    return f'{hours} h {minutes:02} min' if hours else f'{minutes} minutes'


def _cost(config: Config, evidence: Evidence, several: bool) -> str:
    dataset = evidence.dataset
    shape = dataset.n_mels, len(dataset.labels), config.data.frames
    one = f'{cost.flops(config.model, *shape) / 1e6:,.0f} MFLOP per segment'
    count = f'{evidence.parameters:,} parameters'
    return f'{count} in all runs together' if several else f'{count}, {one}'


def _hardware(evidence: Evidence | None) -> str:
    import jax

    devices = jax.devices()
    processes = f' in {jax.process_count()} processes' if jax.process_count() > 1 else ''
    kind = devices[0].device_kind
    shown = f'{len(devices)} × {kind if kind != "cpu" else "CPU device"}{processes}'
    machine = f'{shown} ({_processor()}, {counted(os.cpu_count() or 1, "core")})'
    if evidence is not None and evidence.trained_here:
        return plain(f'trained and scored on {machine}; {platform.platform()}')
    return plain(f'scored on {machine}; {platform.platform()}; where it was trained is not known')


def _processor() -> str:
    """The name of the CPU."""
    try:
        with open('/proc/cpuinfo', encoding='utf-8', errors='replace') as file:
            names = [
                line.partition(':')[2].strip() for line in file if line.startswith('model name')
            ]
    except OSError:  # not Linux
        names = []
    return (names or [platform.processor() or platform.machine()])[0]


def _versions() -> str:
    found = [f'Python {platform.python_version()}']
    for library in _LIBRARIES:
        try:
            found.append(f'{library} {importlib.metadata.version(library)}')
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            continue
    return plain(', '.join(found))


def _files(config: Config, folder: str) -> str:
    names = {
        'predictions.csv': folder,
        'metrics.json': folder,
        'metrics.jsonl': config.workdir,
        'config.json': config.workdir,
    }
    links = []
    for name, place in names.items():
        path = os.path.join(place, name)
        # The last file of a report is written after its page.
        if os.path.exists(path) or name == 'metrics.json':
            links.append(f'<a href="{link(path, folder)}">{name}</a>')
    return ', '.join(links)
