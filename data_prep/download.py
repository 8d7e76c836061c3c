"""Downloads GTZAN and FMA: resumes if interrupted, verifies checksums, unpacks."""

import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

from tqdm import tqdm

from glr_jax.cli import status
from glr_jax.errors import UserError

CHUNK = 1 << 20
TIMEOUT = 60  # seconds without any data


class Archive(NamedTuple):
    """A file to download.

    Attributes:
      url: the address of a .zip or .tar.gz file.
      algorithm: the checksum's: sha1, sha256.
      checksum: in hexadecimal, as published.
      makes: the folder that it unpacks to.
    """

    url: str
    algorithm: str
    checksum: str
    makes: str


def _fma(name: str, checksum: str) -> Archive:
    return Archive(f'https://os.unil.cloud.switch.ch/fma/{name}.zip', 'sha1', checksum, name)


FMA_METADATA = _fma('fma_metadata', 'f0df49ffe5f2a6008d7dc83c6915b31835dfe733')
FMA = {
    'small': _fma('fma_small', 'ade154f733639d52e35e32f5593efe5be76c6d70'),
    'medium': _fma('fma_medium', 'c67b69ea232021025fca9231fc1c7c1a063ab50b'),
    'large': _fma('fma_large', '497109f4dd721066b5ce5e5f250ec604dc78939e'),
    'full': _fma('fma_full', '0f0ace23fbe9ba30ecb7e95f763e435ea802b8ab'),
}
GTZAN = Archive(  # the original site is gone
    'https://web.archive.org/web/20220328223413id_/http://opihi.cs.uvic.ca/sound/genres.tar.gz',
    'sha256',
    '24347e0223d2ba798e0a558c4c172d9d4a19c00bb7963fe055d183dadb4ef2c6',
    'genres',
)


def fetch(archives: Sequence[Archive], folder: str) -> None:
    """Downloads archives and unpacks them in a folder.

    An archive whose unpacked folder exists is not downloaded again. Archives are removed once they
    are unpacked.

    Raises:
      UserError: there is no network, the download stopped early, the checksum is wrong, or the
        archive is damaged or would write outside the folder.
    """
    os.makedirs(folder, exist_ok=True)
    for archive in archives:
        target = os.path.join(folder, archive.makes)
        if os.path.isdir(target):
            status(f'{target} exists already')
            continue
        path = os.path.join(folder, os.path.basename(archive.url))
        if not os.path.exists(path):
            _download(archive, path)
        status(f'unpacking {path}')
        _unpack(path, folder, archive.makes)
        os.remove(path)


def _download(archive: Archive, path: str) -> None:
    """Downloads to `path.partial`, resuming an earlier attempt; renames it once it is verified."""
    partial = path + '.partial'
    have = os.path.getsize(partial) if os.path.exists(partial) else 0
    request = urllib.request.Request(archive.url, headers={'Range': f'bytes={have}-'})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            if response.status != http.HTTPStatus.PARTIAL_CONTENT:
                have = 0  # the server sends the whole file
            length = response.headers.get('Content-Length')
            total = have + int(length) if length else None
            with (
                open(partial, 'ab' if have else 'wb') as file,
                tqdm(
                    total=total,
                    initial=have,
                    unit='B',
                    unit_scale=True,
                    desc=os.path.basename(path),
                    dynamic_ncols=True,
                ) as bar,
            ):
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise UserError(
                f'{archive.url}: the server answers {error.code} {error.reason}'
            ) from None
        total = have  # the earlier attempt had all of it
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f'{archive.url} cannot be downloaded: {error}; run the same command again to resume'
        ) from None
    size = os.path.getsize(partial)
    if total is not None and size < total:
        raise UserError(
            f'{archive.url} stopped after {size:,} of {total:,} bytes; run the same command '
            'again to resume'
        )
    with open(partial, 'rb') as file:
        checksum = hashlib.file_digest(file, archive.algorithm).hexdigest()
    if checksum != archive.checksum:
        os.remove(partial)
        raise UserError(
            f'{archive.url} has the {archive.algorithm} checksum {checksum}, but '
            f'{archive.checksum} was published; the file was removed: try again, or download it by '
            'other means'
        )
    os.replace(partial, path)


def _unpack(path: str, folder: str, makes: str) -> None:
    """Unpacks to a temporary folder and renames it, so that the final folder is never partial."""
    beside = os.path.join(folder, f'.unpacking-{makes}')
    shutil.rmtree(beside, ignore_errors=True)
    try:
        if path.endswith('.zip'):
            with zipfile.ZipFile(path) as archive:
                outside = [name for name in archive.namelist() if _leaves(name)]
                if outside:
                    raise UserError(f'{path} would write outside its folder: {outside[0]!r}')
                archive.extractall(beside)
        else:
            with tarfile.open(path) as archive:
                archive.extractall(beside, filter='data')
        os.replace(os.path.join(beside, makes), os.path.join(folder, makes))
    except tarfile.FilterError as error:
        raise UserError(f'{path} would write outside its folder: {error}') from None
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, FileNotFoundError) as error:
        raise UserError(f'{path} is damaged ({error}); remove it and download it again') from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _leaves(name: str) -> bool:
    parts = name.replace('\\', '/').split('/')
    return '..' in parts or parts[0] == '' or ':' in parts[0]
