"""Scores the best checkpoint of a run or of a folder of runs: `python -m glr_jax.evaluate`.

Processes that decode import this module too, so what takes long is imported where it is used.
"""

import dataclasses
import os

from glr_jax import cli
from glr_jax.devices import startup
from glr_jax.errors import UsageError, UserError
from glr_jax.fields import option, section
from glr_jax.text import counted

USAGE = """
usage: python -m glr_jax.evaluate --workdir=DIR [--data.split=SPLIT] [--data.dir=FOLDER]

Scores the best checkpoint on the test clips, each of them exactly once. Prints a table and writes
report/metrics.json, predictions.csv and index.html into the workdir; for another split, dataset or
number of crops, into a folder below report/ that is named after them. If DIR is a folder of runs,
their probabilities are averaged; where clips may have several labels, the validation clips that all
runs share choose the thresholds for the mean.

--data.dir may be another dataset, or a folder of audio with one sub-folder per label. If the run
was trained on none of its clips, all of them are scored. Labels are matched by name; clips with
other labels are counted and left out. Where clips may have several labels, labels that the run does
not know are ignored, and labels that the other dataset does not have are left out of the scores;
audio has to be prepared first. If a file cannot be read, a line on stderr says why, the others are
still scored, and the exit code is 1.

A damaged checkpoint is named and the next best one is used.
"""


@dataclasses.dataclass(frozen=True)
class DataChoice:
    """Data other than the run's own."""

    dir: str = option('', "dataset or folder of audio, if not the run's own", is_path=True)
    split: str = option('', "split, if not the run's own; all = every clip of other data")
    test_crops: int = option(
        0,
        "cut this many times as many segments from each clip; 0 = the run's own setting",
        0,
        maximum=1000,
    )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The flags of this command."""

    workdir: str = option('', 'folder of the run, or a folder of runs', is_path=True)
    allow_changed_data: bool = option(
        False, "score the run's own split although the data changed since it was trained"
    )
    data: DataChoice = section(DataChoice)


if __name__ == '__main__':  # before JAX is imported, which takes seconds
    startup.restart_with_huge_pages()
    cli.check_command_line(Evaluation, USAGE)


def main(argv: list[str]) -> None:
    """Runs the command line."""
    choice = cli.parse(Evaluation, argv, USAGE)
    cli.need(choice, 'workdir')

    from glr_jax import report, scored_data, scoring, storage
    from glr_jax.data.other_data import ALL
    from glr_jax.devices.processes import announce
    from glr_jax.run import training_data
    from glr_jax.trained import restore

    startup.enable_compilation_cache()
    startup.check_devices()
    runs = restore(choice.workdir)
    single = [run.workdir for run in runs] == [choice.workdir]
    finished = not single or bool(report.read(choice.workdir))
    own = [run.meta.config.data for run in runs]
    folders = [data.dir for data in own]
    folder = choice.data.dir or scored_data.common_flag('dir', folders, choice.workdir)
    if not folder:
        raise UsageError(
            f'{choice.workdir} was exported and does not name its dataset; give --data.dir=FOLDER'
        )
    configs = [dataclasses.replace(r.meta.config, workdir=r.workdir) for r in runs]
    dataset, others = scored_data.open_data(folder, runs)
    whole = others and (
        list(dataset.splits) == [ALL]  # a folder of audio
        or not training_data.trained_on(dataset, dataset.members(ALL, 'test'), configs)
    )
    splits = [ALL] if whole else [data.split for data in own]
    split = choice.data.split or scored_data.common_flag('split', splits, choice.workdir)
    scores = scoring.report_best(
        choice.workdir,
        dataset,
        split,
        runs,
        choice.data.test_crops,
        finished=finished,
        allow_changed_data=choice.allow_changed_data,
    )
    print(report.table(scores))
    floor = report.read_floor(choice.workdir, scores)
    if floor:
        print(report.wrapped(report.compared(floor)))
    below = scoring.subfolder(dataset, split, choice.data.test_crops, configs)
    page = os.path.join(choice.workdir, 'report', below, 'index.html')
    announce(f'report      {storage.link(page)}')
    if unreadable := len(scores.get('unreadable', {})):
        total = len(dataset) + unreadable
        files = counted(total, 'file')
        raise UserError(f'{unreadable} of {files} could not be read; the others were scored')


if __name__ == '__main__':
    cli.execute(main, at_once=True)
