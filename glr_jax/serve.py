"""A web page that tags audio: `python -m glr_jax.serve --workdir=runs/demo`."""

import dataclasses

from glr_jax import cli
from glr_jax.devices import startup
from glr_jax.fields import option

USAGE = """
usage: python -m glr_jax.serve --workdir=DIR [--port=7860]

Serves a page on which audio can be dropped, recorded or picked. It shows the most probable labels,
the spectrogram, and the probabilities over time. If the network was trained on clips with several
labels, the page marks those at or above their thresholds. If DIR is a folder of runs, the page
offers each of them, and their mean. Programs can call it too: the page links to the documentation
of its API.

The page is served to this machine only, unless --host says otherwise, and nothing is fetched from
elsewhere. Uploads are deleted after an hour.
"""


@dataclasses.dataclass(frozen=True)
class Flags:
    """The flags of this command."""

    workdir: str = option('', 'folder of the run, or a folder of runs', is_path=True)
    host: str = option(
        '127.0.0.1', 'address to listen on; with 0.0.0.0, everybody in the network can upload audio'
    )
    port: int = option(7860, 'port to listen on', 1, maximum=65535)
    examples: str = option('', 'folder of audio files to offer as examples', is_path=True)
    max_mb: int = option(50, 'largest upload, in megabytes', 1, maximum=4096)
    max_minutes: float = option(20.0, 'longest audio', above=0, maximum=240)
    top: int = option(5, 'labels to show', 1, maximum=100)
    test_crops: int = option(
        4,
        'as --data.test_crops: more, overlapping segments, for a finer course over time; '
        "0 = the run's own setting",
        0,
        maximum=1000,
    )
    waiting: int = option(20, 'uploads that may wait; one is tagged at a time', minimum=1)
    share: bool = option(False, 'also ask gradio.live for a public link, for 72 hours')


if __name__ == '__main__':  # before JAX is imported, which takes seconds
    startup.restart_with_huge_pages()
    cli.check_command_line(Flags, USAGE)

import contextlib
import errno
import html
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import numpy as np

from glr_jax.cli import status
from glr_jax.data.audio import stated_seconds, stream_audio
from glr_jax.data.decode_pool import Failure, Read
from glr_jax.data.files import audio_files
from glr_jax.data.mel import decode, mel_of_samples
from glr_jax.data.waveform import Mono
from glr_jax.devices.processes import announce
from glr_jax.errors import ClipError, UserError
from glr_jax.page import tagged
from glr_jax.run import checkpoint, provenance
from glr_jax.run.workdir import find_runs
from glr_jax.tagger import Tagger
from glr_jax.text import printable
from glr_jax.trained import restore

MEAN = 'mean of all'
_EXAMPLES = 12


def main(argv: list[str]) -> None:
    """Runs the command line."""
    choice = cli.parse(Flags, argv, USAGE)
    cli.need(choice, 'workdir')
    check_port(choice.host, choice.port)
    gradio = _import()
    startup.enable_compilation_cache()
    startup.check_devices()
    taggers = load_all(choice.workdir, choice.test_crops)
    status('compiling for the first visitor')
    _warm_up(next(iter(taggers.values())))
    page = make_page(gradio, taggers, choice)
    fonts: dict[str, Any] = {'font': ['system-ui', 'sans-serif']}
    fonts['font_mono'] = ['ui-monospace', 'monospace']  # the theme's own are fetched from Google
    try:
        page.launch(
            server_name=choice.host,
            server_port=choice.port,
            share=choice.share,
            max_file_size=choice.max_mb * 10**6,
            theme=gradio.themes.Default(**fonts),
            css=tagged.STYLE,
            footer_links=['api'],
            ssr_mode=False,
            prevent_thread_lock=True,
            quiet=True,
        )
    except OSError as error:  # another program took the port while the model was loaded
        raise UserError(_port_fault(choice.host, choice.port, error)) from None
    status(f'serving on {page.local_url} (Ctrl-C ends it)')
    if page.share_url:
        status(f'and for everybody on {page.share_url}')
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):  # there is nothing to resume
        page.block_thread()
    page.close()


def check_port(host: str, port: int) -> None:
    """Raises `UserError` unless this process can listen there; loading models takes much longer."""
    for each in dict.fromkeys([host.strip('[]'), '127.0.0.1']):  # Gradio tries the latter as well
        try:
            found = socket.getaddrinfo(each, port, type=socket.SOCK_STREAM)
            for family, kind, protocol, _, address in found[:1]:
                with socket.socket(family, kind, protocol) as listener:
                    if os.name == 'posix':  # else a port that was in use just now seems taken
                        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listener.bind(address)
        except OSError as error:
            raise UserError(_port_fault(each, port, error)) from None


def _port_fault(host: str, port: int, error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return (
            f'--host={host} is not an address of this machine; 127.0.0.1 is for this machine only, '
            '0.0.0.0 for the whole network'
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f'--port={port}: no permission to listen there; choose a --port of 1024 or more'
    return f'--port={port} of {host} is in use by another program; choose another --port'


def load_all(workdir: str, test_crops: int) -> dict[str, Tagger]:
    """Each run of a folder by its name, and their mean if they go together; the mean comes first.

    Raises:
      UserError: there is no checkpoint, or a run was trained on ready-made spectrograms.
    """
    workdirs = find_runs(workdir)
    if workdirs in ([], [workdir]):
        name = os.path.basename(os.path.abspath(workdir))
        return {name: _checked(Tagger(restore(workdir), test_crops=test_crops))}
    runs = {}
    for run in workdirs:
        try:
            runs[os.path.relpath(run, workdir)] = restore(run)[0]
        except checkpoint.NoCheckpointError:
            announce(f'{run} has no finished checkpoint and is left out')
    if not runs:
        raise UserError(f'no run below {workdir} has a finished checkpoint yet')
    taggers = {name: _checked(Tagger([run], test_crops=test_crops)) for name, run in runs.items()}
    if len(runs) == 1:
        return taggers
    try:
        provenance.check_alike([(run.workdir, run.meta) for run in runs.values()])
    except UserError as error:
        announce(f'{error}; the page has no mean')
        return taggers
    return {MEAN: Tagger(list(runs.values()), test_crops=test_crops)} | taggers


def _checked(tagger: Tagger) -> Tagger:
    tagger.check_audio()
    return tagger


def _warm_up(tagger: Tagger) -> None:
    front_end = tagger.front_end
    noise = np.random.default_rng(0).standard_normal(30 * front_end.sample_rate)
    tagger((noise.astype(np.float32), front_end.sample_rate))


def make_page(gradio: Any, taggers: dict[str, Tagger], choice: Flags) -> Any:
    """The page, as Gradio's Blocks."""
    names = list(taggers)
    explain = make_tag(taggers, choice)

    def tag(audio: str, model: str) -> tuple[dict[str, float], str]:
        try:
            return explain(audio, model)
        except ClipError as error:
            message = html.escape(str(error))
            raise gradio.Error(message, duration=None, print_exception=False) from None

    with gradio.Blocks(
        title='Music tagger', analytics_enabled=False, delete_cache=(600, 3600)
    ) as page:
        gradio.Markdown(_heading(choice))
        with gradio.Row():
            with gradio.Column():
                audio = gradio.Audio(
                    sources=['upload', 'microphone'],
                    type='filepath',
                    label='Audio',
                    editable=False,
                    buttons=[],
                )
                model = gradio.Dropdown(
                    names, value=names[0], label='Model', visible=len(names) > 1
                )
                button = gradio.Button('Tag', variant='primary')
                if choice.examples:
                    files = list(audio_files(choice.examples))[:_EXAMPLES]
                    gradio.Examples(files, audio, label='Examples', examples_per_page=_EXAMPLES)
            with gradio.Column():
                # A label on top would look like the only one; the bars below show several.
                several = any(tagger.multi_label for tagger in taggers.values())
                top = gradio.Label(num_top_classes=choice.top, label='Labels', visible=not several)
        course = gradio.HTML(label='Over time')
        button.click(tag, [audio, model], [top, course], api_name='tag')
    page.queue(default_concurrency_limit=1, max_size=choice.waiting)
    return page


def _heading(choice: Flags) -> str:
    what = 'record, or pick an example' if choice.examples else 'or record'
    limits = f'up to {choice.max_mb} MB and {choice.max_minutes:g} minutes'
    return f'# Music tagger\nDrop or pick a file, {what}: {limits}.'


def make_tag(
    taggers: dict[str, Tagger], choice: Flags
) -> Callable[[str | None, str], tuple[dict[str, float], str]]:
    """What the page does with audio: probabilities, and the course over time as HTML."""

    def tag(audio: str | None, model: str) -> tuple[dict[str, float], str]:
        if not audio:
            raise ClipError('There is no audio yet: drop a file, record, or pick an example.')
        if model not in taggers:
            raise ClipError('There is no such model.')
        tagger = taggers[model]
        front_end = tagger.front_end
        try:
            samples = read_at_most(audio, front_end.sample_rate, choice.max_minutes)
            mel = mel_of_samples(samples, front_end)
        except ClipError as error:
            raise ClipError(f'{_name(audio)} {error}.') from None
        (found,) = tagger.tag_mels([Read('', mel)])
        if isinstance(found, Failure):
            raise ClipError(f'{_name(audio)} {found.reason}.')
        seconds = len(samples) / front_end.sample_rate
        picture = tagged.course(found, decode(mel, front_end), front_end, seconds, choice.top)
        return found.probabilities, picture

    return tag


def _name(path: str) -> str:
    return printable(os.path.basename(path))


def read_at_most(path: str, sample_rate: int, minutes: float) -> Mono:
    """Reads an audio file, but no further than a limit.

    Raises:
      ClipError: it cannot be read, or is too long.
    """
    limit = round(60 * minutes * sample_rate)
    too_long = ClipError(f'is longer than {minutes:g} minutes, the most allowed')
    if stated_seconds(path) > 60 * minutes:
        raise too_long
    blocks, count = [], 0
    with stream_audio(path, sample_rate) as stream:
        for block in stream:
            count += len(block)
            if count > limit:
                raise too_long
            blocks.append(block)
    return np.concatenate(blocks)


def _import() -> Any:
    # Before its import: Gradio reports its use to its makers otherwise.
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    os.environ.setdefault('HF_HUB_DISABLE_TELEMETRY', '1')
    try:
        import gradio
    except ImportError:
        raise UserError("gradio is missing; install it with: pip install -e '.[demo]'") from None
    return gradio


if __name__ == '__main__':
    cli.execute(main, at_once=True)
