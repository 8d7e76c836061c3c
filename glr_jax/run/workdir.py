"""A run's folder: `config.json` says which run it belongs to, `.lock` who trains it.

`metrics.jsonl` has the epochs. Leftovers of killed commands are removed or ignored.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from typing import Any

from glr_jax import json_files, locks, storage
from glr_jax.config import Config, differences
from glr_jax.errors import UserError
from glr_jax.fields import from_dict, to_dict

LOCK = '.lock'
_REMEDY = 'remove it, and the same train command writes it again'
_LOGGED = ('epoch', 'step', 'loss', 'validation_loss')
_LOGGED_SCORES = ('accuracy', 'validation_accuracy')  # where each clip has one label


@contextlib.contextmanager
def lock(folder: str) -> Iterator[None]:
    """Keeps other commands from training in a workdir while a `with` block runs.

    The operating system releases the lock when the process ends, however it ends.

    Raises:
      UserError: another command has it; the message says which. Or the folder is a file.
    """
    if not _is_free_or_ours(folder):  # `claim` refuses it
        yield
        return
    refuse_file(folder)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, LOCK)
    with locks.hold(path, folder, '--workdir', keep=True):
        try:
            yield
        finally:
            if set(os.listdir(folder)) <= {LOCK}:  # a failed check: leave nothing behind
                with contextlib.suppress(FileNotFoundError):  # Windows: nothing was locked
                    os.remove(path)
                os.rmdir(folder)


def refuse_file(folder: str) -> None:
    """Raises `UserError` if a workdir is a file."""
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UserError(f'--workdir={folder} is a file; choose a folder')


def _is_free_or_ours(folder: str) -> bool:
    """Whether a folder is missing, empty, or has a run, perhaps one whose config.json is lost."""
    if not os.path.isdir(folder):
        return True
    names = {name for name in os.listdir(folder) if not storage.is_partial(name)}
    if 'config.json' in names or names <= {LOCK}:
        return True
    return 'data.json' in names or stored_config(folder) is not None


def claim(config: Config, devices: int | None = None) -> None:
    """Writes `config.json` into a new workdir, or verifies the one that is there.

    A run with a constant learning rate may get more epochs: its report is then kept as
    `report-N-epochs/`, and the run continues.

    Args:
      config: of the run.
      devices: how many it would train on; None if it is only to be read.

    Raises:
      UserError: the workdir belongs to a run with another config, or to something else, or batch
        normalisation would compute its statistics over another number of clips.
    """
    if not _is_free_or_ours(config.workdir):
        raise UserError(
            f'{config.workdir} is not empty and was not created by glr_jax; '
            'choose another --workdir'
        )
    clips = None if devices is None else clips_normalised_together(config, devices)
    path = os.path.join(config.workdir, 'config.json')
    before = stored_config(config.workdir)
    if before is not None:
        _check_same_run(before, config)
        _check_normalised(config, clips)
    if devices is not None or before is None:
        os.makedirs(config.workdir, exist_ok=True)
        for folder in (config.workdir, os.path.join(config.workdir, 'report')):
            storage.remove_partial(folder)
    if before is not None and os.path.exists(path):
        if devices is None or not _is_longer(before, config):
            return
        _keep_report(config.workdir, before.train.epochs)
        clips = clips or normalised_together(config.workdir)
    with storage.to_write(path) as partial, open(partial, 'w') as file:
        json.dump(to_dict(config) | {'normalised_together': clips}, file, indent=2)
        file.write('\n')


def is_extended(config: Config) -> bool:
    """Whether a config has more epochs than the run in its workdir, and may have them."""
    before = stored_config(config.workdir)
    return before is not None and _is_longer(before, config)


def is_finished(workdir: str) -> bool:
    """Whether a workdir has the report of a finished run, so that training does not repeat it."""
    try:
        found = _read(os.path.join(workdir, 'report', 'metrics.json'))
    except (OSError, UserError):
        return False
    return bool(found.get('finished', True))


def stored_config(workdir: str) -> Config | None:
    """The config of the run in a workdir, from its newest checkpoint if config.json is lost.

    None if there is no run yet.

    Raises:
      UserError: `config.json` is damaged.
    """
    if os.path.exists(os.path.join(workdir, 'config.json')):
        return read_config(workdir)
    from glr_jax.run import intact  # imports JAX, which reading a finished run does not need

    folder = os.path.join(workdir, 'checkpoints')
    for step in intact.steps(folder):
        with contextlib.suppress(UserError, TypeError, KeyError, AttributeError):
            return from_dict(Config, intact.read_meta(folder, step)['config'])
    return None


def _is_longer(before: Config, config: Config) -> bool:
    return config.train.epochs > before.train.epochs and _rate_ignores_epochs(config)


def _rate_ignores_epochs(config: Config) -> bool:
    """Whether the learning rate of a step is the same in a longer run."""
    return config.train.schedule == 'constant' and config.train.warmup == 0


def _check_same_run(before: Config, config: Config) -> None:
    longer = dataclasses.replace(before.train, epochs=config.train.epochs)
    if _is_longer(before, config):
        before = dataclasses.replace(before, train=longer)
    changed = differences(before, config)
    if not changed:
        return
    remedy = 'choose another --workdir, or give the same flags to resume'
    others = differences(dataclasses.replace(before, train=longer), config)
    if not others and config.train.epochs > before.train.epochs:
        remedy = (
            'its learning rate depends on the number of epochs, so it cannot be extended '
            '(only with --train.schedule=constant and --train.warmup=0); start a new run from '
            f'its weights with another --workdir and --init_from={config.workdir}'
        )
    raise UserError(f'{config.workdir} holds a run with {", ".join(changed)}; {remedy}')


def _check_normalised(config: Config, clips: int | None) -> None:
    before = normalised_together(config.workdir)
    if clips and before and clips != before:
        product = config.train.batch_size // before
        per_device = config.model.norm == 'batch'
        raise UserError(
            f'{config.workdir} holds a run with batch normalisation over {before} clips at a time, '
            f'but here it would be over {clips}; resume with '
            + ('devices × --train.accumulate = ' if per_device else '--train.accumulate=')
            + f'{product}'
        )


def normalised_together(workdir: str) -> int | None:
    """How many clips a run normalises together; None if it is an older one, or has no such norm.

    Raises:
      UserError: `config.json` is damaged.
    """
    path = os.path.join(workdir, 'config.json')
    if not os.path.exists(path):
        return None
    found = _read(path).get('normalised_together')
    if found is not None and (not isinstance(found, int) or found < 1):
        raise UserError(f'{path} is damaged: normalised_together is {found!r}; {_REMEDY}')
    return found


def _keep_report(workdir: str, epochs: int) -> None:
    """Renames the report of a shorter run, so that the longer one does not count as finished."""
    report = os.path.join(workdir, 'report')
    kept, count = f'{report}-{epochs}-epochs', 1
    while os.path.exists(kept):
        count += 1
        kept = f'{report}-{epochs}-epochs-{count}'
    if os.path.exists(report):
        os.rename(report, kept)


def _read(path: str) -> dict[str, Any]:
    return json_files.read_object(path, _REMEDY)


def read_config(workdir: str) -> Config:
    """The config of the run in a workdir.

    Raises:
      UserError: there is no run, or its config is damaged.
    """
    path = os.path.join(workdir, 'config.json')
    try:
        values = _read(path)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f'{workdir} holds no run: {path} was not found') from None
    try:
        return from_dict(Config, values)
    except (UserError, AttributeError, TypeError) as error:
        raise UserError(f'{path} is damaged: {error}; {_REMEDY}') from None


def read_log(workdir: str) -> tuple[list[dict[str, Any]], int]:
    """The rows of `metrics.jsonl`, and how many damaged lines were left out."""
    path, rows, damaged = os.path.join(workdir, 'metrics.jsonl'), [], 0
    if not os.path.exists(path):
        return [], 0
    for line in json_files.read_bytes(path, at_most=1 << 30).split(b'\n'):
        try:  # a power failure may leave NULs, and then a row is written behind them
            row = json_files.parse_object(line.strip(b'\0 \r'), path, '')
        except UserError:
            row = {}
        # Where clips have several labels, a score may be None.
        names = _LOGGED if 'validation_macro_roc_auc' in row else (*_LOGGED, *_LOGGED_SCORES)
        complete = all(isinstance(row.get(name), float | int) for name in names)
        if complete and json_files.is_intact(row):
            row.pop(json_files.CHECKSUM, None)
            rows.append(row)
        elif line:
            damaged += 1
    return rows, damaged


def clips_normalised_together(config: Config, devices: int) -> int | None:
    """How many clips share their statistics in batch normalisation; None with any other norm."""
    match config.model.norm:
        case 'batch':
            return config.train.batch_size // (devices * config.train.accumulate)
        case 'batch_sync':
            return config.train.batch_size // config.train.accumulate
        case _:
            return None


def find_runs(folder: str) -> list[str]:
    """The workdirs that a folder stands for: itself if it is one, else all those below it.

    They are sorted; folders whose name begins with a dot are skipped. The runs may be symbolic
    links, so that a folder of links can name a selection.
    """
    if _is_workdir(folder):
        return [folder]
    found: list[str] = []
    for parent, folders, _ in os.walk(folder):
        paths = {name: os.path.join(parent, name) for name in folders if name[0] != '.'}
        runs = {name for name, path in paths.items() if _is_workdir(path)}
        found += [paths[name] for name in runs]
        folders[:] = [name for name in paths if name not in runs]
    return sorted(found)


def _is_workdir(folder: str) -> bool:
    marks = ('config.json', 'checkpoints', 'model.safetensors')  # the last of an exported network
    return any(os.path.exists(os.path.join(folder, x)) for x in marks)
