"""Progress on stderr: a bar on a terminal, plain lines in a log."""

import shutil
import sys
import time
from collections import deque

from tqdm import tqdm

from glr_jax.text import counted, printable

WIDTH = 80  # columns; a longer line would wrap
FIRST, EVERY = 2, 10  # seconds until the second line of a log, and between those after it
WINDOW = 60  # seconds over which the rate is taken


class Progress:
    """Counts what is done, and says how long the rest will take.

    Args:
      total: how many there are.
      what: a word for the work, as `mel`.
      unit: of what is counted, in the singular.
      done: how many were done by an earlier command; they do not count in the rate.
      shown: whether to show it; of several processes, only the first one does.
    """

    def __init__(self, total: int, what: str, unit: str, done: int = 0, *, shown: bool = True):
        self._shown = shown
        self.total, self.what, self.unit, self.done = total, what, unit, done
        self._bar: tqdm | None = None
        self._started = self._next = time.monotonic()
        self._marks = deque([(self._started, done)])
        self._advanced = False

    def __enter__(self) -> 'Progress':
        if self._shown and sys.stderr.isatty():
            width = min(WIDTH, shutil.get_terminal_size().columns)
            shape = '{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} '
            self._bar = tqdm(
                total=self.total,
                desc=self.what,
                unit=self.unit,
                initial=self.done,
                ncols=width,
                bar_format=shape + '[{remaining} left, {rate_fmt}]',
                smoothing=0.05,
            )
        else:
            self._say()
            self._next = self._started + FIRST
        return self

    def advance(self, count: int) -> None:
        """More are done."""
        if not self._advanced:  # the rate does not count the start of the workers
            self._advanced = True
            self._marks = deque([(time.monotonic(), self.done + count)])
            if self._bar is not None:
                self._bar.unpause()
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
            return
        now = time.monotonic()
        if now >= self._next and self.done < self.total:
            self._say()
            self._next = now + EVERY

    def say(self, message: str) -> None:
        """Prints a line on stderr; a bar stays below it."""
        if self._bar is not None:
            self._bar.clear()
        print(printable(message), file=sys.stderr, flush=True)
        if self._bar is not None:
            self._bar.refresh()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self.done == self.total:
            self._say()

    def _say(self) -> None:
        if self._shown:
            print(self.line(time.monotonic()), file=sys.stderr, flush=True)

    def line(self, now: float) -> str:
        """What is done at a time: `mel: 120 of 900 clips, 12.3 clips/s, 1:05 left`."""
        text = f'{self.what}: {self.done:,} of {counted(self.total, self.unit, ",")}'
        self._marks.append((now, self.done))
        while len(self._marks) > 2 and self._marks[1][0] <= now - WINDOW:
            self._marks.popleft()
        since, before = self._marks[0]
        rate = (self.done - before) / (now - since) if now > since else 0
        if self.done == self.total:
            return f'{text} in {clock(now - self._started)}'
        if not rate:
            return text
        return f'{text}, {rate:.3g} {self.unit}s/s, {clock((self.total - self.done) / rate)} left'


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours too: `1:05`, `2:01:05`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'
