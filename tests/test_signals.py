"""Signals: a command saves first or leaves at once, always with exit code 75 and one line."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from glr_jax import signals

ROOT = Path(__file__).parents[1]
ENDING = [number.name for number in signals.ENDING]
# A command that saves for a second, after each of its steps of a tenth of a second.
COMMAND = """
import hashlib, os, time
from glr_jax import cli, signals
from glr_jax.errors import StoppedError

def main(argv):
    print('started', flush=True)
    if argv[1] == 'compile':
        # For minutes, the main thread does not return to the interpreter to run a handler.
        hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)
    if argv[1] == 'hidden':  # as while libmpg123 decodes, whose messages nobody should see
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        print('quiet', flush=True)
        time.sleep(60)
    with signals.noted() as stops_here:
        while True:
            time.sleep(0.1)
            stops = stops_here()
            print('step', flush=True)
            with signals.whole:
                if argv[1] == 'save' or stops:
                    print('logged', flush=True)
                    time.sleep(1)
                    print('saved', flush=True)
            if stops:
                time.sleep(60 if argv[1] == 'hang' else 0)
                raise StoppedError('stopped early and saved; run the same command again to resume')

cli.execute(main, at_once=True, resumes=True)
"""


class Command:
    """The command in a process of its own."""

    def __init__(self, *arguments: str):
        self.process = subprocess.Popen(
            [sys.executable, '-c', COMMAND, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.seen: list[str] = []

    def wait_for(self, word: str) -> None:
        for line in self.process.stdout or ():
            self.seen.append(line.strip())
            if line.strip() == word:
                return

    def send(self, name: str) -> None:
        self.process.send_signal(getattr(signal, name))

    def end(self) -> tuple[list[str], str]:
        """All lines on stdout, and the line on stderr; the exit code must be 75."""
        output, errors = self.process.communicate(timeout=30)
        assert self.process.returncode == 75, errors
        assert len(errors.splitlines()) == 1
        assert 'run the same command again to resume' in errors
        return self.seen + output.split(), errors


@pytest.fixture
def started() -> Iterator[list[Command]]:
    commands: list[Command] = []
    yield commands
    for command in commands:
        command.process.kill()
        command.process.wait()


def start(started: list[Command], *arguments: str) -> Command:
    started.append(Command(*arguments))
    return started[-1]


@pytest.mark.parametrize('name', ENDING)
def test_a_signal_saves_after_the_step(name: str, started: list[Command]) -> None:
    command = start(started, 'run')
    command.wait_for('step')
    command.send(name)
    lines, errors = command.end()
    assert lines[-2:] == ['logged', 'saved']
    assert 'stopped early' in errors


@pytest.mark.parametrize('name', ENDING)
def test_before_the_first_step_a_signal_ends_the_command_even_inside_a_library(
    name: str, started: list[Command]
) -> None:
    command = start(started, 'compile')
    command.wait_for('started')
    sent = time.monotonic()
    command.send(name)
    _, errors = command.end()
    assert time.monotonic() - sent < 5
    assert f'stopped by {name}' in errors


def test_a_second_signal_leaves_at_once_but_not_between_log_and_save(
    started: list[Command],
) -> None:
    command = start(started, 'save')
    command.wait_for('logged')
    command.send('SIGTERM')
    time.sleep(signals.TOGETHER + 0.2)
    command.send('SIGINT')
    lines, _ = command.end()
    assert lines.count('logged') == lines.count('saved')


def test_a_second_signal_ends_what_hangs(started: list[Command]) -> None:
    command = start(started, 'hang')
    command.wait_for('step')
    command.send('SIGTERM')
    command.wait_for('saved')
    command.send('SIGTERM')
    _, errors = command.end()
    assert 'stopped by SIGTERM' in errors


def test_the_line_is_printed_while_messages_of_a_decoder_are_hidden(started: list[Command]) -> None:
    command = start(started, 'hidden')
    command.wait_for('quiet')
    command.send('SIGINT')
    _, errors = command.end()
    assert 'stopped by SIGINT' in errors


def test_two_signals_that_mean_one_are_one(started: list[Command]) -> None:
    # A terminal sends SIGINT to a script and its children, and the script SIGTERM to the latter.
    command = start(started, 'run')
    command.wait_for('step')
    command.send('SIGINT')
    command.send('SIGTERM')
    lines, errors = command.end()
    assert lines[-1] == 'saved'
    assert 'stopped early' in errors


def test_signals_during_start_up_are_one_line_and_none_is_lost(tmp_path: Path) -> None:
    # Before Python has read its own files, no program can do anything about a signal.
    (tmp_path / 'sitecustomize.py').write_text('import sys; print(flush=True)')
    command = [sys.executable, '-m', 'glr_jax.train', '--workdir=no/such', '--data.dir=no/such']
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    for delay in (0.2, 0.5, 1.0):
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert 'Traceback' not in errors
        assert process.returncode in (75, 1)  # 1: it had already found no dataset
    assert not (ROOT / 'no').exists()


@pytest.mark.parametrize('name', ['SIGINT', 'SIGTERM'])
def test_a_signal_while_python_ends_does_not_kill_the_command(name: str) -> None:
    command = [sys.executable, '-m', 'glr_jax.train', '--workdir=no/such', '--data.dir=no/such']
    for delay in (0.0, 0.01, 0.02):  # Python takes about 30 ms to end
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        assert process.stderr
        assert 'no/such' in process.stderr.readline()
        time.sleep(delay)
        process.send_signal(getattr(signal, name))
        process.communicate(timeout=60)
        assert process.returncode in (1, 75)  # 75: Python had not begun to end


HOOK = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == 'glr_jax.signals':
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
"""


@pytest.mark.parametrize('command', ['glr_jax.predict', 'data_prep', 'experiments.prediction'])
def test_ctrl_c_before_the_handlers_are_installed_is_one_line(command: str, tmp_path: Path) -> None:
    (tmp_path / 'sitecustomize.py').write_text(HOOK)
    done = subprocess.run(
        [sys.executable, '-m', command],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 75
    assert done.stderr.splitlines() == [f'{command}: stopped by SIGINT; run the same command again']
