"""Decisions become the genre in the tags of files: first shown, then written, then restorable."""

import os
from collections.abc import Iterable, Sequence

from glr_jax import tag_files
from glr_jax.cli import status
from glr_jax.errors import UserError
from glr_jax.tag_files import Genre, TagError
from glr_jax.tagger import Prediction, decide
from glr_jax.text import counted, printable


class Written:
    """What has become of the files.

    Attributes:
      changed: how many got another genre, or would get it.
      same: how many have it already.
      unsure: how many are left as they are, because no label is probable enough.
      failed: the paths of those that cannot be changed.
    """

    def __init__(self) -> None:
        self.changed = self.same = self.unsure = 0
        self.failed: list[str] = []


def write(
    predictions: Iterable[Prediction], threshold: float, apply: bool, backup: str, written: Written
) -> None:
    """Prints the change of each file, and makes it if it is to be applied.

    Args:
      predictions: of the files.
      threshold: the probability below which a label is not decided, instead of the network's own
        thresholds; a file without a decided label is left as it is.
      apply: whether files are changed.
      backup: the file that takes what their genres were.
      written: counts what is done.
    """
    for prediction in predictions:
        genres = list(decide(prediction.probabilities, prediction.thresholds, threshold))
        if not genres:
            written.unsure += 1
            print(f'{printable(prediction.path)}: unsure, left as it is', flush=True)
            continue
        try:
            before = tag_files.read(prediction.path)
            if before.values == genres:
                written.same += 1
                continue
            tag_files.check_writable(prediction.path)
            if apply:
                tag_files.back_up(backup, prediction.path, before, genres)
                tag_files.write(prediction.path, genres)
        except TagError as error:
            status(f'{printable(prediction.path)}: {error}')
            written.failed.append(prediction.path)
            continue
        written.changed += 1
        _print_change(prediction.path, before.values, genres)


def summarise(written: Written, apply: bool, backup: str) -> None:
    """Says what was changed or would be, and how to undo it or to do it."""
    files = counted(written.changed, 'file')
    others = f'{written.same} had it already' if written.same else ''
    if written.unsure:
        others += f'{", " if others else ""}{written.unsure} unsure'
    others = f' ({others})' if others else ''
    if not apply:
        status(f'nothing was changed; --apply would set the genre of {files}{others}')
    elif written.changed:
        status(
            f'set the genre of {files}{others}; what it was is in {backup}, and '
            f'--restore_tags={backup} --apply puts it back'
        )
    else:
        status(f'no genre had to be changed{others}')


def restore(backup: str, apply: bool) -> None:
    """Puts back the genres that a backup file has, in files that were not changed since.

    Raises:
      UserError: the backup cannot be used, or a file cannot be restored.
    """
    tag_files.check_installed()
    kept, restored, failed = tag_files.read_backup(backup), 0, 0
    for path, (before, after) in kept.items():
        try:
            restored += _restore(path, before, after, apply)
        except TagError as error:
            failed += 1
            status(f'{printable(path)}: {error}')
    files = counted(restored, 'file')
    if apply:
        status(f'restored the genre of {files}')
    else:
        status(f'nothing was changed; --apply would restore the genre of {files}')
    if failed:
        raise UserError(f'{failed} of {counted(len(kept), "file")} could not be restored')


def _restore(path: str, before: Genre, after: Sequence[str], apply: bool) -> bool:
    """Whether a file was restored, or would be; not if it has its earlier genre already."""
    if not os.path.exists(path):
        raise TagError('was not found')
    now = tag_files.read(path)
    if now.values == before.values:
        return False
    if now.values != list(after):
        raise TagError(f'has the genre {_shown(now.values)} by now and is left as it is')
    tag_files.check_writable(path)
    if apply:
        tag_files.write(path, before.values, drop_empty=not before.tagged)
    _print_change(path, now.values, before.values)
    return True


def _print_change(path: str, before: Sequence[str], after: Sequence[str]) -> None:
    print(f'{printable(path)}: {_shown(before)} -> {_shown(after)}', flush=True)


def _shown(values: Sequence[str]) -> str:
    return printable(', '.join(map(repr, values))) or 'no genre'
