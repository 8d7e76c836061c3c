import dataclasses
import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import glr_jax
from glr_jax import serve
from glr_jax.data.audio import load_audio
from glr_jax.errors import ClipError, UserError

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / 'broken.wav'
    path.write_bytes(b'RIFF, but nothing of the kind' * 50)
    return path


def choose(**changes: Any) -> serve.Flags:
    return dataclasses.replace(serve.Flags(), **changes)


def test_the_page_says_what_predict_says(tones: Path, tones_run: Path) -> None:
    song = str(tones / 'low' / '9.wav')
    taggers = serve.load_all(str(tones_run), 0)
    assert list(taggers) == ['tones']
    probabilities, picture = serve.make_tag(taggers, choose(test_crops=0, top=2))(song, 'tones')
    assert probabilities == glr_jax.load(tones_run)(song).probabilities
    assert picture.count('class="strip"') == 2
    assert 'src="data:image/png;base64,' in picture
    assert 'src="http' not in picture
    parts = re.search('class="strip">(.*?)</div>', picture)
    assert parts
    widths = [float(x) for x in re.findall(r'width:([\d.]+)%', parts[1])]
    assert sum(widths) == pytest.approx(100, abs=0.1)


def test_the_page_marks_the_decided_labels_and_their_thresholds(
    chords: Path, tagged_run: Path
) -> None:
    song = str(chords / '3.wav')
    taggers = serve.load_all(str(tagged_run), 0)
    (tagger,) = taggers.values()
    least = min(tagger(song).probabilities.values())
    for thresholds, count in (((least / 2,) * 3, 3), ((1.0,) * 3, 0)):
        tagger.thresholds = thresholds
        _, picture = serve.make_tag(taggers, choose(test_crops=0, top=2))(song, 'chords')
        assert picture.count('class="bar decided"') == count
        assert picture.count('class="bar ') == max(count, 2) == picture.count('class="strip"')
        assert picture.count(f'<b style="left:{100 * thresholds[0]:.2f}%"></b>') == max(count, 2)
        assert picture.count(f', threshold {thresholds[0]:.0%}</span>') == max(count, 2)
        assert f'{count} of 3 labels decided' in picture


def test_a_folder_of_runs_offers_each_run_and_their_mean(tones_run: Path, tmp_path: Path) -> None:
    for name in ('one', 'two'):
        (tmp_path / name).symlink_to(tones_run)
    assert list(serve.load_all(str(tmp_path), 0)) == [serve.MEAN, 'one', 'two']


def test_bad_audio_is_a_sentence(
    tones: Path, tones_run: Path, broken: Path, tmp_path: Path
) -> None:
    tag = serve.make_tag(serve.load_all(str(tones_run), 0), choose(max_minutes=0.02))
    with pytest.raises(ClipError, match=r'broken\.wav cannot be decoded as audio'):
        tag(str(broken), 'tones')
    with pytest.raises(ClipError, match=r'9\.wav is longer than 0\.02 minutes, the most allowed'):
        tag(str(tones / 'low' / '9.wav'), 'tones')
    with pytest.raises(ClipError, match='no audio yet'):
        tag(None, 'tones')
    with pytest.raises(ClipError, match='no such model'):
        tag(str(tones / 'low' / '0.wav'), '../other')


def test_audio_that_does_not_state_its_length_is_not_read_beyond_the_limit(
    tones: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = str(tones / 'low' / '9.wav')
    np.testing.assert_array_equal(serve.read_at_most(song, 22050, 1), load_audio(song, 22050))
    monkeypatch.setattr(serve, 'stated_seconds', lambda path: float('nan'))
    with pytest.raises(ClipError, match='is longer than'):
        serve.read_at_most(song, 22050, 0.01)


def test_missing_gradio_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'gradio', None)
    with pytest.raises(UserError, match='gradio is missing; install it with'):
        serve.main(['serve', '--workdir=anything', f'--port={free_port()}'])


def free_port() -> int:
    with socket.create_server(('127.0.0.1', 0)) as server:
        return server.getsockname()[1]


def test_a_port_in_use_is_known_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, 'load_all', lambda *_: pytest.fail('loaded'))
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
        words = (
            rf'^--port={port} of 127\.0\.0\.1 is in use by another program; choose another --port$'
        )
        for host in ([], ['--host=localhost'], ['--host=0.0.0.0']):
            with pytest.raises(UserError, match='in use' if host else words):
                serve.main(['serve', '--workdir=anything', f'--port={port}', *host])


@pytest.mark.parametrize('host', ['192.0.2.1', 'no.such.host.invalid'])
def test_a_host_that_is_not_this_machine_is_named(host: str) -> None:
    with pytest.raises(UserError, match=f'^--host={host} is not an address of this machine; 127'):
        serve.check_port(host, free_port())


def test_a_port_without_permission_says_which_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, 'Permission denied')

    monkeypatch.setattr(socket.socket, 'bind', refuse)
    with pytest.raises(UserError, match=r'^--port=80: no permission .* a --port of 1024 or more$'):
        serve.check_port('127.0.0.1', 80)


def test_a_free_port_stays_free() -> None:
    port = free_port()
    for host in ('127.0.0.1', '0.0.0.0', 'localhost'):
        serve.check_port(host, port)
    with socket.create_server(('127.0.0.1', port)):
        pass


@pytest.fixture
def served(tones_run: Path, tones: Path, tmp_path: Path) -> Iterator[str]:
    """The address of the command's page."""
    pytest.importorskip('gradio')
    command = [sys.executable, '-m', 'glr_jax.serve', f'--workdir={tones_run}', '--port=17861']
    command += ['--max_mb=1', f'--examples={tones / "low"}']
    log = tmp_path / 'log'
    environment = os.environ | {'GRADIO_TEMP_DIR': str(tmp_path / 'uploads')}
    with open(log, 'w') as file:
        process = subprocess.Popen(command, stderr=file, env=environment)
    try:
        for _ in range(600):
            found = re.search(r'serving on (\S+)', log.read_text())
            if found or process.poll() is not None:
                break
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
        assert found, log.read_text()
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()


@pytest.mark.slow
def test_the_page_in_a_browser(served: str, tones: Path, broken: Path) -> None:
    sync_api = pytest.importorskip('playwright.sync_api')
    if CHROMIUM is None:
        pytest.skip('no Chromium')
    assert served.startswith('http://127.0.0.1:')
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        for width in (390, 1280):
            page = browser.new_page(viewport={'width': width, 'height': 900})
            requests: list[str] = []
            page.on('request', lambda request, seen=requests: seen.append(request.url))
            page.goto(served)
            button = page.get_by_role('button', name='Tag', exact=True)
            button.wait_for(timeout=60_000)
            file = page.locator('input[type=file]').first
            file.set_input_files(str(tones / 'low' / '9.wav'))
            page.locator('.waveform-container, audio').first.wait_for(state='attached')
            page.wait_for_timeout(2000)
            button.click()
            page.locator('.course').wait_for(timeout=60_000)
            assert page.locator('.course img').evaluate('image => image.naturalWidth') > 10
            assert page.locator('[data-testid=label-output-value]').inner_text() == 'low'
            assert page.evaluate('document.documentElement.scrollWidth') <= width
            local = (served, 'data:', 'blob:')
            assert [address for address in requests if not address.startswith(local)] == []

            page.goto(served)
            button.wait_for(timeout=60_000)
            file.set_input_files(str(broken))
            page.wait_for_timeout(2000)
            button.click()
            page.get_by_text('broken.wav cannot be decoded as audio').wait_for(timeout=60_000)
        browser.close()


@pytest.mark.slow
def test_the_api(served: str, tones: Path, broken: Path, tmp_path: Path) -> None:
    client_library = pytest.importorskip('gradio_client')
    client = client_library.Client(served, verbose=False, download_files=str(tmp_path))
    song = client_library.handle_file(str(tones / 'low' / '9.wav'))
    probabilities, picture = client.predict(song, 'tones', api_name='/tag')
    assert probabilities['label'] == 'low'
    assert 'class="course"' in picture
    with pytest.raises(Exception, match='cannot be decoded as audio'):
        client.predict(client_library.handle_file(str(broken)), 'tones', api_name='/tag')
    large = tmp_path / 'large.wav'
    large.write_bytes(bytes(2_000_000))
    with pytest.raises(Exception, match=r'(?i)413|size|large'):
        client.predict(client_library.handle_file(str(large)), 'tones', api_name='/tag')
