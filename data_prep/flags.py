"""The flags of `python -m data_prep`, and which of them go together."""

import dataclasses
import re
import shlex
from typing import Literal

from glr_jax import storage
from glr_jax.data.front_end import FrontEnd
from glr_jax.errors import UsageError
from glr_jax.fields import check_fields, option, section

COLUMNS = ('path', 'label', 'labels', 'group', 'split')  # of a table, whose names have flags
SUBSETS = {  # of each source that has some, its default first
    'fma': ('small', 'medium', 'large', 'full'),
    'mtg_jamendo': ('top50tags', 'genre', 'instrument', 'moodtheme'),
}
ELSEWHERE = {  # where to get what --download does not fetch
    'mtat': 'https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset',
}


@dataclasses.dataclass(frozen=True)
class Preparation:
    """The flags of this command."""

    source: Literal[
        'demo', 'demo_tags', 'folder', 'gtzan', 'fma', 'mtg_jamendo', 'mtat', 'arrays'
    ] = option('folder', 'where the clips come from')
    input: str = option('', 'folder or file that the source reads', is_path=True)
    download: bool = option(
        False, 'first download the audio of gtzan, fma or mtg_jamendo to --input'
    )
    subset: str = option(
        '',
        'subset of fma: small (the default), medium, large or full; of mtg_jamendo: top50tags '
        '(the default), genre, instrument or moodtheme',
    )
    top_labels: int = option(
        50, 'with --source=mtat: keep the most frequent labels, this many; 0 = all', minimum=0
    )
    merge_synonyms: bool = option(
        False, 'with --source=mtat: merge labels that mean the same, as female voice and woman'
    )
    out: str = option('', 'dataset folder to write', is_path=True)
    runner: Literal['pool', 'beam'] = option(
        'pool', 'what writes the shards: processes on this machine, or Apache Beam'
    )
    num_workers: int = option(0, 'processes in the pool; 0 = one per core', minimum=0)
    beam_options: str = option('', "options for Beam, e.g. '--runner=FlinkRunner --parallelism=64'")
    shard_range: str = option('', 'A:B: write only shards A to B-1, e.g. in a job array')
    clips_per_shard: int = option(32, 'clips per TFRecord file', minimum=1)
    max_skipped: float = option(
        0.05, 'fail if more than this fraction of the clips is skipped', minimum=0, maximum=1
    )
    keep_copies: bool = option(False, 'keep exact duplicates in random and group splits')
    sides_from_folders: bool = option(
        False, 'with --source=folder: the files are in SIDE/LABEL/, SIDE being train, test, ...'
    )
    labels_from: Literal['folders', 'tags', 'all_tags'] = option(
        'folders',
        'with --source=folder: labels are the names of sub-folders or in a table; or they are in '
        "the files' tags, with artists as groups (needs mutagen): tags = the first genre, all_tags "
        '= all genres, as several labels per clip',
    )
    metadata: str = option(
        '',
        'with --source=folder: CSV table that lists the files, with labels, groups and sides; by '
        'default metadata.csv in --input, if there is one',
        is_path=True,
    )
    path_column: str = option('', 'its column with the paths below --input; by default path')
    label_column: str = option('', 'its column with one label per clip; by default label')
    labels_column: str = option(
        '', 'its column with any number of labels per clip; by default labels'
    )
    label_separator: str = option('|', 'between several labels of a clip')
    keep_unlabelled: bool = option(
        False, 'with several labels per clip: keep clips without any, as examples of none'
    )
    group_column: str = option('', 'its column with the groups; by default group or artist')
    split_column: str = option('', 'its column with train, validation or test; by default split')
    min_clips_per_label: int = option(
        0, 'leave out labels with fewer clips than this; 0 = fail if a label has fewer than 3'
    )
    overwrite: bool = option(
        False, 'replace another dataset in --out, once the new one is finished'
    )
    front_end: FrontEnd = section(FrontEnd, prefix='')

    def __post_init__(self) -> None:
        check_fields(self)
        self.shards()
        self.options_for_beam()
        if self.download:
            storage.check_local(self.input, '--input')
            if self.source in ELSEWHERE:
                raise UsageError(
                    f'--download does not support --source={self.source}; get the data as '
                    f'{ELSEWHERE[self.source]} describes, and unpack it in --input'
                )
            if self.source not in ('gtzan', 'fma', 'mtg_jamendo'):
                raise UsageError(
                    f'--download supports the sources gtzan, fma and mtg_jamendo, not {self.source}'
                )
        self.chosen_subset()
        if self.source != 'mtat':
            if self.top_labels != 50:
                raise UsageError(
                    f'--top_labels={self.top_labels} needs --source=mtat, not {self.source}'
                )
            if self.merge_synonyms:
                raise UsageError(f'--merge_synonyms needs --source=mtat, not {self.source}')
        if self.keep_unlabelled and self.source not in ('folder', 'mtat', 'arrays'):
            raise UsageError(
                '--keep_unlabelled needs --source=folder or --source=mtat or --source=arrays, '
                f'not {self.source}'
            )
        if self.input and self.source.startswith('demo'):
            raise UsageError(
                f'--source={self.source} reads nothing; leave out --input, or give --source'
            )
        if self.sides_from_folders and self.source != 'folder':
            raise UsageError(f'--sides_from_folders needs --source=folder, not {self.source}')
        self.check_labelling()
        if self.beam_options and self.runner != 'beam':
            raise UsageError('--beam_options needs --runner=beam')
        if self.num_workers and self.runner == 'beam':
            raise UsageError(
                '--num_workers is for --runner=pool; give the workers of Beam in --beam_options'
            )

    def chosen_subset(self) -> str:
        """The subset of the source; '' if it has none."""
        known = SUBSETS.get(self.source, ())
        if self.subset and self.subset not in known:
            if known:
                raise UsageError(
                    f'--subset={self.subset} is not a subset of --source={self.source}, which has '
                    f'{", ".join(known)}'
                )
            owners = [f'--source={name}' for name in SUBSETS if self.subset in SUBSETS[name]]
            sources = ' or '.join(owners or [f'--source={name}' for name in SUBSETS])
            raise UsageError(f'--subset={self.subset} needs {sources}, not {self.source}')
        return self.subset or next(iter(known), '')

    def check_labelling(self) -> None:
        """Raises `UsageError` if the flags that say where labels are do not go together."""
        if not self.label_separator.strip():
            raise UsageError('--label_separator must not be empty')
        tables = ('metadata', *(f'{name}_column' for name in COLUMNS))
        given = [f'--{name}={value}' for name in tables if (value := getattr(self, name))]
        if self.labels_from != 'folders':
            flag = f'--labels_from={self.labels_from}'
            others = ('sides_from_folders', 'keep_unlabelled')
            given += [f'--{name}' for name in others if getattr(self, name)]
            if given:
                raise UsageError(f'{given[0]} does not go with {flag}; leave out one')
            given = [flag]
        if given and self.source != 'folder':
            raise UsageError(f'{given[0]} needs --source=folder, not {self.source}')
        if given and self.sides_from_folders:
            raise UsageError(f'{given[0]} does not go with --sides_from_folders; leave out one')
        if self.min_clips_per_label and self.min_clips_per_label < 3:
            raise UsageError(
                f'--min_clips_per_label={self.min_clips_per_label} must be 0 or at least 3: one '
                'clip each for train, validation and test'
            )

    def shards(self) -> range | None:
        """The shards to write; None = all."""
        if not self.shard_range:
            return None
        found = re.fullmatch(r'(\d+):(\d+)', self.shard_range)
        if not found or int(found[1]) >= int(found[2]):
            raise UsageError(f'--shard_range={self.shard_range} must be A:B with A < B')
        return range(int(found[1]), int(found[2]))

    def options_for_beam(self) -> list[str]:
        """The single options in `beam_options`."""
        try:
            return shlex.split(self.beam_options)
        except ValueError as error:
            fault = 'an unclosed quote' if 'quot' in str(error) else 'a backslash at its end'
            raise UsageError(f'--beam_options={self.beam_options} has {fault}') from None
