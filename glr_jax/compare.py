"""Compares finished runs: `python -m glr_jax.compare runs/one runs/other 'runs/*-batch'`."""

import dataclasses
from typing import Literal

from glr_jax import cli
from glr_jax.fields import option

USAGE = """
usage: python -m glr_jax.compare RUN... [--format=text|csv] [--out=FOLDER]

Prints which flags of the runs differ, their scores, and how far each is ahead of the first one.
A RUN is a workdir, a folder of runs at any depth, or a quoted pattern: 'runs/*-batch'.

Runs whose flags differ only in the seed and the split (random-1, random-2, ...) form a group, which
has mean ± standard deviation. Groups are named A, B, C, ... in the order of the arguments, and all
others are compared with A, that of the first RUN. Runs that are not finished or damaged are left
out, and a line on stderr says why.

The difference from A is paired: it is between runs with the same split and seed (or, if there are
none, the same split) that have the same test clips. Two single runs get the p-value of McNemar's
exact test and Newcombe's 95 % interval. Groups get a 95 % interval from a bootstrap over clips, or
Student's t over the pairs if a run has no predictions.csv.

Runs whose clips may have several labels are compared by their macro ROC-AUC, always with a
bootstrap over clips. They cannot be compared with runs that have one label per clip.
"""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The flags of this command."""

    format: Literal['text', 'csv'] = option('text', 'what is printed; csv has fractions')
    out: str = option(
        '', 'folder for compare.csv and compare.html, a page with the learning curves', is_path=True
    )


if __name__ == '__main__':  # before the imports that take a second
    cli.check_command_line(Comparison, USAGE)

import os
import sys

from glr_jax import compare_pairs, compare_runs, storage
from glr_jax.cli import status
from glr_jax.compare_csv import as_csv
from glr_jax.compare_tables import as_text, tables
from glr_jax.errors import UsageError, UserError
from glr_jax.text import counted


def main(argv: list[str]) -> None:
    """Runs the command line."""
    choice, arguments = cli.parse_with_arguments(Comparison, argv, USAGE)
    if not arguments:
        raise UsageError('no runs: name a workdir or a folder of runs (see --help)')
    if choice.out:
        storage.check_local(choice.out, '--out')
        if os.path.exists(choice.out) and not os.path.isdir(choice.out):
            raise UsageError(f'--out={choice.out} is not a folder')
    workdirs = compare_runs.find(arguments)
    runs = compare_runs.read(workdirs, left_out=status)
    if not runs:
        raise UserError(f'none of {counted(len(workdirs), "run")} can be compared')
    compare_runs.check_one_task(runs)
    groups = compare_runs.grouped(runs)
    differences = {
        group.name: compare_pairs.difference(group, groups[0], other_clips=status)
        for group in groups[1:]
    }
    if choice.format == 'csv':
        sys.stdout.write(as_csv(groups, differences))
    else:
        print(as_text(tables(groups, differences)))
    if choice.out:
        from glr_jax.page import compare_page  # matplotlib takes a second

        os.makedirs(choice.out, exist_ok=True)
        files = {
            'compare.csv': as_csv(groups, differences),
            'compare.html': compare_page.page(groups, tables(groups, differences)),
        }
        for name, text in files.items():
            path = os.path.join(choice.out, name)
            storage.write_text(path, text)
            status(f'wrote {path}')


if __name__ == '__main__':
    cli.execute(main, at_once=True)
