"""Downloads from a local server that can be made to fail."""

import contextlib
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_prep import download, mtg_jamendo
from data_prep.__main__ import main
from data_prep.download import Archive, fetch
from glr_jax.errors import UsageError, UserError

MUSIC = {'music/a.txt': b'la' * 40_000, 'music/b/c.txt': b'li'}


def make_zip(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_BZIP2) as file:  # as FMA's are
        for name, data in entries.items():
            file.writestr(name, data)
    return buffer.getvalue()


def make_tar(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w:gz') as file:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by name; closes connections after `cut` bytes; records requested `ranges`."""

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None
        self.resumes = True
        self.ranges: list[str] = []

    def offer(self, name: str, data: bytes, checksum: str = '') -> Archive:
        self.files[f'/{name}'] = data
        url = f'http://127.0.0.1:{self.server_port}/{name}'
        return Archive(url, 'sha1', checksum or hashlib.sha1(data).hexdigest(), 'music')


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        self.server.ranges.append(self.headers['Range'])
        start = int(self.headers['Range'][6:-1]) if self.server.resumes else 0
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if self.server.resumes else 200)
        self.send_header('Content-Length', str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start : self.server.cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def check_music(folder: Path) -> None:
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}
    assert found == MUSIC


@pytest.mark.parametrize(('name', 'make'), [('m.zip', make_zip), ('m.tar.gz', make_tar)])
def test_an_archive_is_fetched_and_unpacked_once(
    server: Server, tmp_path: Path, name: str, make: object
) -> None:
    archive = server.offer(name, make(MUSIC))  # type: ignore[operator]
    fetch([archive], str(tmp_path))
    check_music(tmp_path)
    fetch([archive], str(tmp_path))
    assert server.ranges == ['bytes=0-']


@pytest.mark.parametrize('resumes', [True, False])
def test_an_interrupted_download_resumes(server: Server, tmp_path: Path, resumes: bool) -> None:
    archive = server.offer('m.tar.gz', make_tar(MUSIC))
    server.cut = 100
    with pytest.raises(UserError, match='100 '):
        fetch([archive], str(tmp_path))
    server.cut, server.resumes = None, resumes
    fetch([archive], str(tmp_path))
    check_music(tmp_path)
    assert server.ranges == ['bytes=0-', 'bytes=100-']


def test_a_complete_download_that_was_not_verified_is_used(server: Server, tmp_path: Path) -> None:
    archive = server.offer('m.zip', make_zip(MUSIC))
    (tmp_path / 'm.zip.partial').write_bytes(server.files['/m.zip'])
    fetch([archive], str(tmp_path))
    check_music(tmp_path)


def test_an_archive_with_a_wrong_checksum_is_removed(server: Server, tmp_path: Path) -> None:
    archive = server.offer('m.zip', make_zip(MUSIC), checksum='0' * 40)
    with pytest.raises(UserError, match='was published; the file was removed'):
        fetch([archive], str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('name', ['../evil.txt', '/tmp/evil.txt', 'music/../../evil.txt'])
@pytest.mark.parametrize(('file', 'make'), [('m.zip', make_zip), ('m.tar.gz', make_tar)])
def test_no_entry_escapes_the_folder(
    server: Server, tmp_path: Path, name: str, file: str, make: object
) -> None:
    archive = server.offer(file, make(MUSIC | {name: b'evil'}))  # type: ignore[operator]
    folder = tmp_path / 'deep' / 'folder'
    with contextlib.suppress(UserError):  # tar makes absolute names relative without an error
        fetch([archive], str(folder))
    assert [path for path in tmp_path.rglob('evil*') if folder not in path.parents] == []
    assert not Path('/tmp/evil.txt').exists()
    assert {p.name for p in folder.rglob('*')} <= {'music', 'a.txt', 'b', 'c.txt', file}


def test_a_file_that_is_not_an_archive_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'm\.zip is damaged'):
        fetch([server.offer('m.zip', b'no archive')], str(tmp_path))


def test_a_missing_file_and_a_missing_server_are_reported(server: Server, tmp_path: Path) -> None:
    archive = server.offer('m.zip', b'')
    del server.files['/m.zip']
    with pytest.raises(UserError, match='404'):
        fetch([archive], str(tmp_path))
    with pytest.raises(UserError, match='cannot be downloaded'):
        fetch([archive._replace(url='http://127.0.0.1:9/m.zip')], str(tmp_path))


def test_the_command_downloads_before_it_reads(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, 'GTZAN', server.offer('m.zip', make_zip(MUSIC)))
    with pytest.raises(UserError, match='is not GTZAN'):
        main(['x', '--source=gtzan', '--download', f'--input={tmp_path}', f'--out={tmp_path}/o'])
    check_music(tmp_path)
    with pytest.raises(UsageError, match='--download supports'):
        main(['x', '--source=demo', '--download', f'--input={tmp_path}', f'--out={tmp_path}/o'])


def test_where_to_get_what_is_not_downloaded_is_said() -> None:
    with pytest.raises(UsageError, match='does not support') as error:
        main(['x', '--source=mtat', '--download', '--input=x', '--out=y'])
    assert 'https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset' in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('root', ['', 'mtg-jamendo-dataset'])
def test_mtg_jamendo_is_verified_by_the_checksums_in_its_repository(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    content = make_tar({'07/7.low.mp3': b'la'})
    server.offer('raw_30s_audio-low-07.tar', content)
    monkeypatch.setattr(mtg_jamendo, 'ADDRESS', f'http://127.0.0.1:{server.server_port}')
    flags = [
        'x',
        '--source=mtg_jamendo',
        '--download',
        f'--input={tmp_path}',
        f'--out={tmp_path}/o',
    ]
    with pytest.raises(UserError, match='git clone https'):
        main(flags)
    checksums = tmp_path / root / 'data' / 'download' / 'raw_30s_audio-low_sha256_tars.txt'
    checksums.parent.mkdir(parents=True)
    checksums.write_text('no checksums')
    with pytest.raises(UserError, match='is no list of checksums'):
        main(flags)
    checksums.write_text(f'{"0" * 64} raw_30s_audio-low-07.tar\n')
    with pytest.raises(UserError, match='has the sha256 checksum'):
        main(flags)
    checksums.write_text(f'{hashlib.sha256(content).hexdigest()} raw_30s_audio-low-07.tar\n')
    with pytest.raises(UserError, match='split-0'):  # the audio is there, the splits are not
        main(flags)
    assert (tmp_path / 'audio-low' / '07' / '7.low.mp3').read_bytes() == b'la'
