"""The data that runs are scored on: their own, another dataset, or a folder of audio."""

from collections.abc import Sequence

from glr_jax import storage
from glr_jax.config import Config
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.data.other_data import read_folder, with_labels
from glr_jax.data.tables import names_of
from glr_jax.devices.processes import announce
from glr_jax.errors import UsageError, UserError
from glr_jax.run import provenance, training_data
from glr_jax.run.checkpoint import Best
from glr_jax.storage import same_folder
from glr_jax.text import counted


def open_data(folder: str, runs: Sequence[Best]) -> tuple[Dataset, bool]:
    """A dataset or a folder of audio, and whether it is another one than the runs' own.

    Another one need not have all labels of the runs. Clips with labels that the runs do not have
    are counted and left out; where clips may have several, only these labels are ignored.

    Raises:
      UserError: it cannot be read, no clip has a label of the runs, or they have another front end.
    """
    meta = runs[0].meta  # its labels and front end are those of every run
    own = all(same_folder(folder, run.meta.config.data.dir) for run in runs)
    if own or not storage.is_folder(folder) or storage.exists(f'{folder}/splits.csv'):
        dataset = open_dataset(folder)
        if own:
            return dataset, False
        for run in runs:
            provenance.check_task(dataset, run.meta, run.workdir)
            provenance.check_front_end(dataset, run.meta, run.workdir)
        other = with_labels(dataset, meta.labels)
    elif meta.multi_label:
        raise UserError(
            f'{folder} is not a dataset; {runs[0].workdir} decides any number of labels per '
            f'clip, so prepare the folder first, with a metadata.csv that has a column labels: '
            f'python -m data_prep --input={folder} --out=data/NAME'
        )
    elif meta.from_audio:
        other = read_folder(folder, meta.labels, meta.front_end)
    else:
        raise UserError(
            f'{folder} is no dataset; {runs[0].workdir} was trained on ready-made spectrograms, so '
            'it cannot be scored on audio'
        )
    for path, reason in other.skipped.items():
        announce(f'{path}: {reason}')
    for label, count in other.unknown.items():
        if meta.multi_label:
            announce(f'the run does not know the label {label!r} of {counted(count, "clip")}')
        else:
            left = counted(count, 'clip')
            announce(f'{left} left out: the run does not know their label {label!r}')
    if other.absent:
        announce(
            f'{folder} does not have {counted(len(other.absent), "label")} of the run, left out of '
            f'the scores: {names_of(other.absent)}'
        )
    return other, True


def changed(
    dataset: Dataset, split: str, runs: Sequence[Best], configs: Sequence[Config], allow: bool
) -> list[str]:
    """What changed in the data of any run since its training began.

    Raises:
      UserError: the dataset is a run's own and changed after its training, and it may not.
    """
    found: list[str] = []
    for run, config in zip(runs, configs, strict=True):
        data = config.data
        if split != data.split or not same_folder(dataset.folder, data.dir) or not run.meta.data:
            continue
        clips, known = training_data.clips_of(dataset, split), training_data.read(run.workdir)
        found += known.changes if known else []
        if clips.digest in (run.meta.data, known.clips.digest if known else ''):
            continue
        what = training_data.changes(known.clips if known else None, clips)
        message = f'{dataset.folder} changed since {run.workdir} was trained on it: {what}'
        if not allow:
            raise UserError(f'{message}; to score it anyway, give --allow_changed_data')
        announce(message)
        found.append(what)
    return list(dict.fromkeys(found))


def common_flag(name: str, values: list[str], workdir: str) -> str:
    """The value of a data flag that all runs have in common."""
    distinct = list(dict.fromkeys(values))
    if name == 'dir' and all(same_folder(distinct[0], other) for other in distinct):
        return distinct[0]
    if len(distinct) > 1:
        raise UsageError(
            f'the runs below {workdir} have several values of --data.{name}: '
            f'{", ".join(distinct)}; choose one'
        )
    return distinct[0]
