"""Tags files with a trained run: to stdout, into files that resume, or into their own tags."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from glr_jax import audio_paths, genre_tags, prediction_files, predictions, signals
from glr_jax.cli import status
from glr_jax.data.decode_pool import Decode, Decoded, Failure, Read
from glr_jax.data.front_end import FrontEnd
from glr_jax.data.lengths import differing
from glr_jax.genre_tags import Written
from glr_jax.prediction_files import Output
from glr_jax.predictions import Shape
from glr_jax.progress import Progress
from glr_jax.tagger import Prediction, Tagger, load
from glr_jax.text import counted, printable

# Files to their predictions; those that cannot be read are reported and left out.
Tag = Callable[[Sequence[str]], Iterator[Prediction]]


def run(choice: Any, files: Sequence[str], decode: Decode) -> int:
    """Tags files as the flags of `predict` say.

    Args:
      choice: the flags.
      files: to be tagged.
      decode: reads them.

    Returns:
      How many files could not be tagged.

    Raises:
      UserError: the run cannot tag audio, or its predictions cannot be written.
    """
    tagger = load(choice.workdir, choice.batch_size, choice.data.test_crops)
    tagger.check_audio()
    failed: list[str] = []
    tag = functools.partial(_tagged, tagger, decode, failed)
    shape = Shape(
        tagger.labels,
        choice.threshold,
        choice.over_time,
        choice.embeddings == 'column',
        tagger.thresholds,
    )
    if choice.out:
        _into_files(choice, shape, tagger, files, tag)
    elif choice.write_tags:
        written = Written()
        signals.leaves(lambda: _written_so_far(choice, written))
        found = tag(files, show=not sys.stdout.isatty())
        genre_tags.write(found, choice.threshold, choice.apply, choice.tags_backup, written)
        genre_tags.summarise(written, choice.apply, choice.tags_backup)
        failed += written.failed
    else:
        signals.leaves(lambda: 'nothing is saved; with --out=tags.csv a command can be resumed')
        rows = predictions.all_rows(tag(files, show=not sys.stdout.isatty()), shape)
        match choice.format:
            case 'table':
                predictions.print_table(rows, choice.top)
            case 'json':
                predictions.print_json(rows)
            case 'csv':
                predictions.print_csv(rows, shape)
    return len(failed)


def _tagged(
    tagger: Tagger,
    decode: Decode,
    failed: list[str],
    files: Sequence[str],
    show: bool = True,
    done: int = 0,
) -> Iterator[Prediction]:
    """The predictions of files; a line on stderr for each that cannot be read.

    Args:
      tagger: the networks.
      decode: reads the files.
      failed: takes the paths of files that cannot be read.
      files: to be tagged.
      show: whether to show the progress; rows on a terminal show it themselves.
      done: how many were tagged by an earlier command.
    """
    with contextlib.ExitStack() as stack:
        advance, say = (lambda count: None), status
        if show and len(files) > 1:
            progress = Progress(len(files) + done, 'tagging', 'clip', done)
            stack.enter_context(progress)
            advance, say = progress.advance, progress.say
        decoded = _with_cut_ones_named(decode(files, tagger.front_end), tagger.front_end, say)
        for each in tagger.tag_mels(decoded):
            if isinstance(each, Failure):
                say(f'{printable(each.path)}: {each.reason}')
                failed.append(each.path)
            else:
                yield each
            advance(1)


def _with_cut_ones_named(
    decoded: Iterable[Decoded], front_end: FrontEnd, say: Callable[[str], None]
) -> Iterator[Decoded]:
    """The same, after a line for each file that is shorter than it states."""
    for each in decoded:
        if isinstance(each, Read):
            found = differing(each.stated, len(each.mel), front_end)
            if found and found[1] < found[0]:
                say(
                    f'{printable(each.path)}: states {found[0]:.2f} s, but only {found[1]:.2f} s '
                    'could be read; it may be cut off'
                )
        yield each


def _into_files(
    choice: Any, shape: Shape, tagger: Tagger, files: Sequence[str], tag: Callable[..., Any]
) -> None:
    network = {'workdir': list(tagger.networks), 'data.test_crops': choice.data.test_crops}
    with contextlib.ExitStack() as stack:
        embeddings: Output | None = None
        if choice.embeddings not in ('', 'column'):
            embeddings = stack.enter_context(
                prediction_files.opened(
                    choice.embeddings, '--embeddings', ['path', 'embedding'], network
                )
            )
        settings = network | {'over_time': shape.over_time, 'threshold': shape.threshold}
        out = stack.enter_context(
            prediction_files.opened(choice.out, '--out', predictions.columns(shape), settings)
        )
        stored = out.stored & embeddings.stored if embeddings else out.stored
        new = [path for path in files if audio_paths.identity(path) not in stored]
        before = len(files) - len(new)
        if before:
            status(f'{choice.out} has {before} of {counted(len(files), "file")} already')

        tagged = 0

        def left() -> str:
            saved = f'{before + tagged} of {counted(len(files), "file")}'
            return f'{saved} are in {choice.out}; {signals.RESUME_HINT}'

        signals.leaves(left)
        for prediction in tag(new, done=before):
            if embeddings:
                row = {'path': prediction.path, 'embedding': prediction.embedding.tolist()}
                embeddings.add(prediction.path, [row])
            out.add(prediction.path, predictions.rows(prediction, shape))
            tagged += 1
    status(f'{choice.out} has {counted(len(out.stored), "file")}, {tagged} of them new')


def _written_so_far(choice: Any, written: Written) -> str:
    if not choice.apply:
        return 'nothing was changed'
    return (
        f'set the genre of {counted(written.changed, "file")} (what it was is in '
        f'{choice.tags_backup}); the same command does the rest'
    )
