"""Markdown documents and flagfiles, taken apart: their fenced blocks, commands and prose."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PROGRAMS = r'(?:python3?|pip|pytest|launch/[\w.]+|sbatch|docker|kubectl|sky|xprof)'


class Command(NamedTuple):
    """A command in a document."""

    path: Path
    line: int
    words: tuple[str, ...]
    in_ci: bool  # whether .ci/run runs it

    def __str__(self) -> str:
        return f'{self.path.relative_to(ROOT)}:{self.line} {" ".join(self.words[:3])}'


class Block(NamedTuple):
    """A fenced block; `line` is its first line in the document."""

    line: int
    language: str
    text: str
    in_ci: bool


def blocks(path: Path) -> list[Block]:
    text = path.read_text()
    found = re.finditer(r'(<!-- ci: \w+ -->\n)?^```(\w*)\n(.*?)^```$', text, re.M | re.S)
    line = lambda match: text[: match.start(3)].count('\n') + 1
    return [Block(line(match), match[2], match[3], bool(match[1])) for match in found]


def prose(path: Path) -> str:
    """The text without its fenced blocks, on the same lines."""
    blank = lambda match: '\n' * match[0].count('\n')
    return re.sub(r'^```.*?^```$', blank, path.read_text(), flags=re.M | re.S)


def split(shell: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The line and the words of each command of a shell script without control flow."""
    line = 0
    for logical in re.split(r'(?<!\\)\n', shell):
        for command in logical.replace('\\\n', ' ').split('&&'):
            if words := tuple(shlex.split(command, comments=True)):
                yield line, words
        line += logical.count('\n') + 1


def commands(path: Path) -> Iterator[Command]:
    if path.suffix == '.flags':
        for line, text in enumerate(path.read_text().splitlines(), 1):
            if text.startswith('#   '):
                yield Command(path, line, tuple(text[1:].split()), in_ci=False)
        return
    for block in blocks(path):
        if block.language == 'bash':
            for line, words in split(block.text):
                yield Command(path, block.line + line, words, block.in_ci)
    text = prose(path)
    for match in re.finditer(rf'`({PROGRAMS}\s[^`]+)`', text):
        for _, words in split(match[1].replace('\n', ' ')):
            yield Command(path, text[: match.start()].count('\n') + 1, words, in_ci=False)


def all_commands(paths: Sequence[Path]) -> list[Command]:
    """Each command once."""
    first = {}
    for path in paths:
        for command in commands(path):
            first.setdefault(command.words, command)
    return list(first.values())


def anchors(path: Path) -> set[str]:
    """The anchors that a forge gives to the headings of a document."""
    headings = re.findall(r'^#+ (.*)$', prose(path), re.M)
    return {re.sub(r'[^\w\- ]', '', heading).lower().replace(' ', '-') for heading in headings}
