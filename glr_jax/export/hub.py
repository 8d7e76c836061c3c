"""Exported folders on the Hugging Face Hub: `--hub=USER/NAME`, `glr_jax.load('hf:USER/NAME')`."""

import os
import re
from collections.abc import Sequence
from typing import Any

from glr_jax.errors import UsageError, UserError

PREFIX = 'hf:'
_NAME = r'[A-Za-z0-9][\w.-]{0,95}'
_INSTALL = "huggingface_hub is missing; install it with: pip install -e '.[hub]'"
# What a network needs. Nothing else of a repository is fetched, and nothing of it is run.
_FETCHED = ('model.json', 'model.safetensors', 'README.md')


def check_name(name: str, flag: str) -> None:
    """Raises `UsageError` if a text is not a repository's name: USER/NAME."""
    if not re.fullmatch(f'{_NAME}/{_NAME}', name):
        raise UsageError(f'{flag}: {name!r} must be USER/NAME, as on huggingface.co')


def download(address: str) -> str:
    """Fetches a repository, or finds it in the cache; returns its folder on this machine.

    Args:
      address: `hf:USER/NAME`, or `hf:USER/NAME@REVISION` for a branch, a tag or a commit.

    Raises:
      UserError: it cannot be fetched.
    """
    name, _, revision = address.removeprefix(PREFIX).partition('@')
    check_name(name, address)
    hub = _import()
    try:
        return str(hub.snapshot_download(name, revision=revision or None, allow_patterns=_FETCHED))
    except Exception as error:  # of httpx, huggingface_hub, the file system
        raise UserError(f'{address} cannot be fetched: {_reason(error)}') from None


def upload(folder: str, files: Sequence[str], name: str, *, public: bool) -> str:
    """Uploads files of a folder to a repository, which is created if need be.

    The account is the one of `hf auth login`, or of the variable HF_TOKEN.

    Args:
      folder: with the files.
      files: their names; nothing else in the folder is uploaded.
      name: of the repository, USER/NAME.
      public: whether a repository that is created can be seen by everybody.

    Returns:
      Its address.

    Raises:
      UserError: the upload failed.
    """
    check_name(name, '--hub')
    api = _import().HfApi()
    try:
        made = api.create_repo(name, private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=os.path.abspath(folder),
            allow_patterns=list(files),
            commit_message='Exported by glr_jax',
        )
    except Exception as error:
        raise UserError(f'--hub={name}: the upload failed: {_reason(error)}') from None
    return str(made)


def _import() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(_INSTALL) from None
    return huggingface_hub


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
