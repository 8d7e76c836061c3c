"""Sources of clips: each is a function from its input to a list of clips."""

import os
from collections.abc import Callable, Sequence

from data_prep import listed
from data_prep.clips import Clip, audio_clip, check_folder
from data_prep.listed import Columns
from glr_jax import storage
from glr_jax.data.files import EMPTY, HIDDEN, UNLABELLED, LeftOut, audio_files, describe, is_audio
from glr_jax.data.metadata import SEPARATOR
from glr_jax.data.records import SIDES
from glr_jax.data.tables import side_of
from glr_jax.errors import UserError
from glr_jax.text import counted

GTZAN_GENRES = (
    *('blues', 'classical', 'country', 'disco', 'hiphop'),
    *('jazz', 'metal', 'pop', 'reggae', 'rock'),
)
GTZAN_ROOTS = ('genres', 'genres_original')
_REMEDY = 'make one per label, or give --metadata=TABLE.csv or --labels_from=tags'


def folder_clips(
    folder: str,
    *,
    sides_from_folders: bool = False,
    table: str = '',
    columns: Columns = Columns(),  # noqa: B008 (it cannot be changed)
    separator: str = SEPARATOR,
    keep_unlabelled: bool = False,
    left_out: Callable[[LeftOut], None] = lambda file: None,
) -> list[Clip]:
    """The audio files below `folder/LABEL/`, at any depth; the sub-folder's name is the label.

    If there is a table, only the files that it lists count; see `listed_clips`.

    Args:
      folder: where to look.
      sides_from_folders: the files are in `folder/SIDE/LABEL/`, SIDE being train, validation or
        test; the sides become the split `official`.
      table: path of a table; '' = `metadata.csv` in the folder, if there is one.
      columns: the names of its columns.
      separator: as for `listed_clips`.
      keep_unlabelled: as for `listed_clips`.
      left_out: called with every file that is not a clip.

    Raises:
      UserError: the folder was not found, has no sub-folders, or has no audio files in them.
    """
    check_folder(folder)
    if any(columns) or table or storage.exists(os.path.join(folder, listed.NAME)):
        if sides_from_folders:
            raise UserError(
                f'{folder} has a {listed.NAME}: give the sides in its column split, and leave out '
                '--sides_from_folders'
            )
        return listed.listed_clips(
            folder,
            left_out,
            path=table,
            columns=columns,
            separator=separator,
            keep_unlabelled=keep_unlabelled,
        )
    if keep_unlabelled:
        raise UserError(
            f'--keep_unlabelled needs several labels per clip; {folder} has no {listed.NAME} with '
            'a column labels'
        )
    if sides_from_folders:
        sides = _labels(folder, left_out)
        wrong = [name for name in sides if not side_of(name)]
        if wrong or not sides:
            raise UserError(
                f'--sides_from_folders needs sub-folders of {folder} with the names '
                f'{", ".join(SIDES)}, not {", ".join(map(repr, wrong)) or "none"}'
            )
        places = [(name, os.path.join(folder, name)) for name in sides]
    else:
        places = [('', folder)]
    clips, count = [], 0
    others: list[LeftOut] = []
    for side, place in places:
        labels = _labels(place, left_out)
        if not side:
            _check_labels(folder, labels)
        for label in labels:
            count += 1
            found = list(audio_files(os.path.join(place, label), others.append))
            if not found:
                others.append(LeftOut(os.path.join(place, label), EMPTY))
            for path in found:
                name = os.path.relpath(path, folder).replace(os.sep, '/')
                clips.append(audio_clip(name, label, path, side=side))
    if not clips:
        present = describe(file for file in others if file.kind != EMPTY)
        raise UserError(
            f'{folder} has no audio files in its {counted(count, "sub-folder")}'
            f'{f", only {present}" if present else ""}; {_REMEDY}'
        )
    for file in others:
        left_out(file)
    return clips


def _labels(folder: str, left_out: Callable[[LeftOut], None]) -> list[str]:
    """The sub-folders of a folder, sorted; audio files beside them are left out."""
    labels = []
    for name, is_folder in sorted(storage.entries(folder).items()):
        if name.startswith('.'):
            left_out(LeftOut(os.path.join(folder, name), HIDDEN))
        elif is_folder:
            labels.append(name)
        elif is_audio(name):
            left_out(LeftOut(os.path.join(folder, name), UNLABELLED))
    return labels


def _check_labels(folder: str, labels: Sequence[str]) -> None:
    """Makes sure that there are sub-folders, and that they are not the sides of a split."""
    if not labels:
        raise UserError(f'{folder} has no sub-folders; {_REMEDY}')
    if len(labels) > 1 and all(map(side_of, labels)):
        raise UserError(
            f'the sub-folders of {folder} are {", ".join(labels)}: sides of a split, not labels; '
            'with files in SIDE/LABEL/, give --sides_from_folders, otherwise rename them'
        )


def gtzan_clips(
    folder: str, *, left_out: Callable[[LeftOut], None] = lambda file: None
) -> list[Clip]:
    """GTZAN as published: `genres/GENRE/GENRE.00000.wav` (or au, flac, mp3); id `GENRE.00000`.

    Args:
      folder: holds the genre folders, or a folder `genres` or `genres_original` with them.
      left_out: called with every file below the genre folders that is not a clip.

    Raises:
      UserError: one of the ten genre folders was not found.
    """
    check_folder(folder)
    candidates = [os.path.join(folder, name) for name in ('', *GTZAN_ROOTS)]
    roots = [root for root in candidates if storage.is_folder(os.path.join(root, GTZAN_GENRES[0]))]
    if not roots:
        raise UserError(f'{folder} is not GTZAN: the folder {GTZAN_GENRES[0]} was not found')
    missing = [g for g in GTZAN_GENRES if not storage.is_folder(os.path.join(roots[0], g))]
    if missing:
        raise UserError(f'{roots[0]} is not GTZAN: missing folders: {", ".join(missing)}')
    for name, is_folder in sorted(storage.entries(roots[0]).items()):
        if is_folder and name not in (*GTZAN_GENRES, *GTZAN_ROOTS) and not name.startswith('.'):
            words = 'folder of no genre', 'is not one of the ten genres of GTZAN'
            left_out(LeftOut(os.path.join(roots[0], name), *words))
    return [
        audio_clip(os.path.splitext(os.path.basename(path))[0], genre, path)
        for genre in GTZAN_GENRES
        for path in audio_files(os.path.join(roots[0], genre), left_out)
    ]
