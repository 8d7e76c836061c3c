"""What `--help` prints: the usage, and each flag with its help and default."""

import re
import shutil
import textwrap
import typing

from glr_jax.fields import leaves, text_of

_HELP_COLUMN = 28


def flag_help(config_class: type, usage: str) -> str:
    """What `--help` prints, as wide as the terminal; a flag without help is left out.

    Args:
      config_class: a dataclass whose fields are made by `option` and `section`.
      usage: printed above the flags.
    """
    width = max(60, min(100, shutil.get_terminal_size().columns))
    lines = [_wrap_usage(textwrap.dedent(usage).strip(), width), '', 'flags:']
    section_of_last = ''
    for name, field, kind, default in leaves(config_class):
        if name.rpartition('.')[0] != section_of_last:
            section_of_last = name.rpartition('.')[0]
            lines.append('')
        text = field.metadata['help']
        if not text:
            continue
        if typing.get_origin(kind) is typing.Literal:
            text = f'{"|".join(typing.get_args(kind))}: {text}'
        if default not in ('', None):
            text += f' [{text_of(default)}]'
        lines += _flag_lines(name, text, width)
    text = (
        'read flags from a file, one per line; flags after it override the file. In all paths, '
        '~ and $VAR are expanded'
    )
    return '\n'.join([*lines, '', *_flag_lines('flagfile=FILE', text, width)])


def _wrap_usage(usage: str, width: int) -> str:
    """Paragraphs as wide as the terminal; indented lines are rows of `name  description`.

    A line continues the one before it if it begins in the column where the text of that one begins.
    """
    joined: list[str] = []
    for line in usage.split('\n'):
        indent = len(line) - len(line.lstrip())
        if line and joined and joined[-1] and indent == _text_column(joined[-1]):
            joined[-1] += f' {line.strip()}'
        else:
            joined.append(line)
    wrapped = []
    for line in joined:
        indent = 2 if line.startswith('usage') else max(0, _text_column(line))
        wrapped.append(_fill(line, width, '', ' ' * indent))
    return '\n'.join(wrapped)


def _text_column(line: str) -> int:
    """Where the text of a paragraph, or the description of a row, begins; -1 in other lines."""
    row = re.match(r' +\S+(?: \S+)*? {2,}', line)
    return len(row[0]) if row else -line.startswith(' ')


def _flag_lines(name: str, text: str, width: int) -> list[str]:
    """A flag and its help in two columns; a long flag has a line to itself."""
    head, indent = f'  --{name}', ' ' * _HELP_COLUMN
    if len(head) > _HELP_COLUMN - 2:
        return [head, _fill(text, width, indent, indent)]
    first = head.ljust(_HELP_COLUMN)
    return [_fill(text, width, first, indent)]


def _fill(text: str, width: int, first: str, others: str) -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
