"""Writes a trained network in formats that other programs run: `python -m glr_jax.export`."""

import dataclasses
from typing import Literal

from glr_jax import cli
from glr_jax.devices import startup
from glr_jax.fields import option

USAGE = """
usage: python -m glr_jax.export --workdir=DIR --out=FOLDER [--format=onnx,...] [FILE...]

Writes the best checkpoint of a run into a folder: model.json (labels, front end, inputs), README.md
(a model card) and one file per format. Each file is read again and checked: its probabilities must
be those of the checkpoint, for audio files that are given as arguments, or for synthetic clips.

formats:
  safetensors  weights; glr_jax.load(FOLDER) and glr_jax.predict --workdir=FOLDER read them
  stablehlo    jax.export: CPUs, NVIDIA GPUs and TPUs; any batch
  onnx         ONNX Runtime and others; any batch
  tflite       LiteRT, for phones and boards; a batch of --batch clips

If DIR is a folder of runs, their mean is exported; only safetensors cannot hold it.
"""

Format = Literal['safetensors', 'stablehlo', 'onnx', 'tflite']


@dataclasses.dataclass(frozen=True)
class Flags:
    """The flags of this command."""

    workdir: str = option('', 'folder of the run, or a folder of runs', is_path=True)
    out: str = option(
        '',
        'folder to write: a new or empty one, or an export of the same network to add formats to',
        is_path=True,
    )
    format: tuple[Format, ...] = option(
        ('safetensors',), 'formats, with commas: safetensors, stablehlo, onnx, tflite'
    )
    from_audio: bool = option(
        False, "take samples at the run's sample rate, rather than spectrograms"
    )
    seconds: float = option(
        0.0, 'length of the clips that go in; 0 = one segment', minimum=0, maximum=3600
    )
    batch: int = option(1, 'tflite: clips per call', minimum=1, maximum=1024)
    licence: str = option('', 'licence of the training data, for the model card: cc-by-4.0')
    hub: str = option('', 'also upload the folder to the Hugging Face Hub, as USER/NAME')
    public: bool = option(False, 'with --hub: everybody can see a repository that is created')


if __name__ == '__main__':  # before JAX is imported, which takes seconds
    startup.restart_with_huge_pages()
    cli.check_command_line(Flags, USAGE)

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from glr_jax import json_files, report, storage
from glr_jax.data.files import audio_files
from glr_jax.errors import UsageError, UserError
from glr_jax.export import card, hub, onnx_file, stablehlo, tflite, verify, weights
from glr_jax.export.function import Function, Signature, make_function, make_signature
from glr_jax.fields import to_dict
from glr_jax.run.checkpoint import Best
from glr_jax.trained import restore, thresholds

CARD = 'README.md'
REMEDY = 'choose another --out'
TOLERANCE = 1e-3  # of a probability; rounding differs between programs
ROUNDED = 1e-2  # where bytes of the spectrogram may differ by 1, or layers compute in bfloat16
AREAS = ('roc_auc', 'average_precision')
_MOST_FILES = 16  # audio files to check on
_PACKAGES = {'safetensors': ('export', 'safetensors'), 'onnx': ('export', 'onnx')}
_PACKAGES |= {'stablehlo': ('export', 'flatbuffers'), 'tflite': ('tflite', 'litert_converter')}


def main(argv: list[str]) -> None:
    """Runs the command line."""
    choice, arguments = cli.parse_with_arguments(Flags, argv, USAGE)
    cli.need(choice, 'workdir', 'out')
    if choice.hub:
        hub.check_name(choice.hub, '--hub')
        if not choice.licence:
            raise UsageError('--hub needs --licence: the licence of the training data')
    storage.check_local(choice.out, '--out')
    check_folder(choice.out)
    files = _audio(arguments)
    startup.enable_compilation_cache()
    startup.check_devices()
    runs = restore(choice.workdir)
    written = export(runs, choice, files)
    for name in written:
        print(os.path.join(choice.out, name))
    if choice.hub:
        print(hub.upload(choice.out, written, choice.hub, public=choice.public))


def check_folder(out: str) -> None:
    """Makes sure that an export replaces no files but those of an earlier export.

    Raises:
      UserError: `out` is a file, or a folder with other files.
    """
    if not os.path.exists(out):
        return
    if not os.path.isdir(out):
        raise UserError(f'--out={out} is a file; name a folder')
    if all(map(storage.is_partial, os.listdir(out))):  # a killed export leaves such files
        return
    path = os.path.join(out, weights.DESCRIPTION)
    values = json_files.read_object(path, REMEDY) if os.path.exists(path) else {}
    if not {'labels', 'meta', 'networks'} <= values.keys():
        raise UserError(f'{out} is not empty and was not created by glr_jax.export; {REMEDY}')


def export(runs: Sequence[Best], choice: Flags, files: Sequence[str] = ()) -> list[str]:
    """Writes the folder; returns the names of all files in it that describe the network.

    Args:
      runs: with the same labels and front end.
      choice: the flags.
      files: audio to check the result on.

    Raises:
      UserError: a format cannot hold the network, a package is missing, the folder holds another
        network, or a file's probabilities differ from those of the checkpoint.
    """
    if len(runs) > 1 and 'safetensors' in choice.format:
        raise UserError(
            f'{choice.workdir} has {len(runs)} runs, and safetensors holds one network; export '
            'each run into its own folder below one folder, which glr_jax.load takes'
        )
    about = _describe(runs, choice)
    signature = make_signature(runs, choice.from_audio, choice.seconds)
    function = make_function(runs, signature)
    clips, wanted = verify.inputs_and_probabilities(runs, signature, files)
    os.makedirs(choice.out, exist_ok=True)
    description = os.path.join(choice.out, weights.DESCRIPTION)
    for format in choice.format:
        name = f'model_from_audio.{format}'
        if format == 'safetensors' or not signature.from_audio:
            name = f'model.{format}'
        content = _make(format, runs, function, signature, choice, about)
        if not os.path.exists(description):  # a killed export may then be repeated
            json_files.write(description, json_files.sealed(about))
        with storage.to_write(os.path.join(choice.out, name)) as partial, open(partial, 'wb') as f:
            f.write(content)
        about['files'][name] = {}
        if format == 'safetensors':
            about['files'][name] = {'sha256': hashlib.sha256(content).hexdigest()}
        else:
            with open(os.path.join(choice.out, name), 'rb') as file:
                reread = file.read()
            _check(format, name, reread, clips, wanted, runs, choice)
            about['files'][name] = _takes(format, signature, runs, choice)
    json_files.write(description, json_files.sealed(about))
    if 'safetensors' in choice.format:
        (again,) = restore(choice.out)
        _, found = verify.inputs_and_probabilities([again], signature, files)
        _report('model.safetensors', float(np.abs(found - wanted).max()), choice, 0.0)
    text = card.make(runs, choice.workdir, about['files'], about['licence'], thresholds(runs))
    storage.write_text(os.path.join(choice.out, CARD), text)
    return [CARD, weights.DESCRIPTION, *about['files']]


def _make(
    format: str,
    runs: Sequence[Best],
    function: Function,
    signature: Signature,
    choice: Flags,
    about: dict[str, Any],
) -> bytes:
    extra, package = _PACKAGES[format]
    try:
        match format:
            case 'safetensors':
                return weights.make(runs[0])
            case 'stablehlo':
                return stablehlo.make(function, signature)
            case 'onnx':
                shown = {k: v for k, v in about.items() if k != 'files'}
                return onnx_file.make(function, signature, shown)
            case _:
                return tflite.make(function, signature, choice.batch)
    except ImportError:
        raise UserError(
            f"--format={format} needs {package}; install it with: pip install -e '.[{extra}]'"
        ) from None


def _check(
    format: str,
    name: str,
    content: bytes,
    clips: np.ndarray,
    wanted: np.ndarray,
    runs: Sequence[Best],
    choice: Flags,
) -> None:
    """Runs a file that was written and compares it with the checkpoint."""
    call = {'stablehlo': stablehlo, 'onnx': onnx_file, 'tflite': tflite}[format].load(content)
    if call is None:
        runtime = {'onnx': 'onnxruntime', 'tflite': 'ai-edge-litert'}[format]
        cli.status(f'{name}: not checked, since {runtime} is not installed')
        return
    batch = choice.batch if format == 'tflite' else 0
    rounded = choice.from_audio or any(r.meta.config.model.dtype != 'float32' for r in runs)
    difference = verify.largest_difference(call, clips, wanted, batch)
    _report(name, difference, choice, ROUNDED if rounded else TOLERANCE)


def _report(name: str, difference: float, choice: Flags, tolerance: float) -> None:
    path = os.path.join(choice.out, name)
    if not difference <= tolerance:
        os.remove(path)
        raise UserError(
            f"{path} was removed: its probabilities differ from the checkpoint's by up to "
            f'{difference:.2g}, and {tolerance:g} is allowed'
        )
    cli.status(f"{name}: probabilities within {difference:.1g} of the checkpoint's")


def _describe(runs: Sequence[Best], choice: Flags) -> dict[str, Any]:
    """What `model.json` says, with the files of the same network that the folder has already."""
    meta = runs[0].meta
    data = dataclasses.replace(meta.config.data, dir='')  # paths of this machine
    config = dataclasses.replace(meta.config, workdir='', init_from='', data=data)
    scores = report.read(choice.workdir)
    kept = ['accuracy', 'accuracy_interval']
    if meta.multi_label:
        kept = [f'{mean}_{area}' for mean in ('macro', 'micro') for area in AREAS]
        kept.insert(1, 'macro_roc_auc_interval')
    kept += ['macro_f1', 'num_clips', 'split', 'side']
    about: dict[str, Any] = {
        'labels': list(meta.labels),
        **_several(runs),
        'front_end': to_dict(meta.front_end) if meta.from_audio else None,
        'segment_frames': meta.config.data.frames,
        'scores': {name: scores[name] for name in kept if name in scores},
        'licence': choice.licence,
        'step': runs[0].step,
        'networks': len(runs),
        'meta': to_dict(dataclasses.replace(meta, config=config)),
        'files': {},
    }
    path = os.path.join(choice.out, weights.DESCRIPTION)
    if not os.path.exists(path):
        return about
    before = json_files.read_object(path, f'remove it, or {REMEDY}')
    same = ('labels', 'thresholds', 'front_end', 'step', 'networks', 'meta')
    plain = json.loads(json.dumps(about))  # without tuples
    if any(before.get(name) != plain.get(name) for name in same):
        raise UserError(f'{choice.out} holds the export of another network; choose another --out')
    about['files'] = dict(before.get('files', {}))
    about['licence'] = choice.licence or str(before.get('licence', ''))
    return about


def _several(runs: Sequence[Best]) -> dict[str, Any]:
    """What `model.json` says about labels of which a clip may have several."""
    limits = thresholds(runs)
    return {'multi_label': True, 'thresholds': list(limits)} if limits else {}


def _takes(
    format: str, signature: Signature, runs: Sequence[Best], choice: Flags
) -> dict[str, Any]:
    """What goes into a file, for `model.json` and the card."""
    batch = choice.batch if format == 'tflite' else 'batch'
    shape = [batch, *signature.shape]
    what = 'spectrograms as glr_jax stores them'
    if signature.from_audio:
        what = f'mono samples in -1..1 at {runs[0].meta.front_end.sample_rate} Hz'
    return {
        'input': {'name': 'clips', 'dtype': signature.dtype, 'shape': shape},
        'outputs': ['probabilities', 'embeddings'],
        'seconds': signature.seconds,
        'takes': f'{what}: {signature.dtype} [{", ".join(map(str, shape))}]',
    }


def _audio(arguments: Sequence[str]) -> list[str]:
    """The audio files that the arguments name; of a folder, the first ones."""
    files: list[str] = []
    for path in arguments:
        if not storage.exists(path):
            raise UserError(f'{path} was not found')
        files += list(audio_files(path)) if storage.is_folder(path) else [path]
    return files[:_MOST_FILES]


if __name__ == '__main__':
    cli.execute(main, at_once=True)
