import dataclasses
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

import glr_jax
from glr_jax import json_files, storage
from glr_jax.config import Config, DataConfig
from glr_jax.data.mel import FrontEnd, mel_of_samples
from glr_jax.errors import UsageError, UserError
from glr_jax.export import card, front_end, hub, onnx_file, stablehlo, tflite, verify
from glr_jax.export.__main__ import main
from glr_jax.export.function import Signature, make_function, make_signature
from glr_jax.export.portable import portable, scan_counts
from glr_jax.inference import Output
from glr_jax.nn import outputs
from glr_jax.nn.model import make_classifier, partition
from glr_jax.run.checkpoint import Best
from glr_jax.run.provenance import Meta
from tests.conftest import model_config

FRONT_ENDS = {
    'default': FrontEnd(),
    'decibels': FrontEnd(n_fft=1023, hop_length=300, n_mels=40, mel_dtype='float32'),
    'long hop': FrontEnd(n_fft=512, hop_length=700, n_mels=20, ref=1.0, htk=True),
}
NETWORKS: dict[str, dict[str, Any]] = {
    'statistics': {'front': 'statistics', 'segment_projection': 16, 'bidirectional': True}
    | {'kernels': (128, 128), 'window': 64, 'readout': 'moments', 'cell': 'gru', 'hidden': 8},
    '2-D': {'front': 'conv', 'conv': '2d', 'kernels': (8,), 'pool': (4,), 'norm': 'group'}
    | {'readout': 'attention', 'cell': 'lstm', 'hidden': 8},
    'bbnn': {'front': 'bbnn', 'kind': 'cnn', 'kernels': (128, 128)},
    'both': {'front': 'both', 'kernels': (16,), 'hidden': 16, 'norm': 'batch', 'cell': 'simple'},
}


def untrained(multi_label: bool = False, **changes: Any) -> Best:
    config = Config(data=DataConfig(frames=96), model=model_config(**changes))
    classifier = make_classifier(config.model, 128, 3, 1, multi_label)
    _, params, stats = partition(classifier)
    meta = Meta(config, ('a', 'b', 'c'), FrontEnd(), True, 128, multi_label=multi_label)
    return Best(classifier, (params, stats), meta, 1, 'untrained')


def run_export(workdir: Path, out: Path, *flags: str) -> None:
    main(['export', f'--workdir={workdir}', f'--out={out}', *flags])


@pytest.mark.parametrize('size', [2, 127, 1023, 2048])
def test_the_dft_is_that_of_numpy(size: int) -> None:
    x = np.random.default_rng(0).standard_normal((3, size)).astype(np.float32)
    real, imaginary = front_end.real_dft(jnp.asarray(x))
    want = np.fft.rfft(x)
    np.testing.assert_allclose(real + 1j * imaginary, want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize('settings', FRONT_ENDS.values(), ids=FRONT_ENDS)
@pytest.mark.parametrize('samples', [20_000, 20_480])
def test_the_exported_front_end_is_that_of_librosa(settings: FrontEnd, samples: int) -> None:
    clips = verify.audio_clips([], samples, settings)
    found = np.asarray(front_end.stored_mel(jnp.asarray(clips), settings))
    want = np.stack([mel_of_samples(clip, settings) for clip in clips]).astype(np.float32)
    difference = np.abs(found - want)
    if settings.mel_dtype == 'float32':
        assert difference.max() < 1e-3
    else:
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize(
    'name',
    [pytest.param(x, marks=pytest.mark.slow) for x in ('statistics', '2-D', 'bbnn', 'both')],
)
def test_onnx_gives_the_probabilities_of_every_kind_of_network(name: str) -> None:
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    run = untrained(**NETWORKS[name])
    signature = make_signature([run], False, 0)
    function = make_function([run], signature)
    call = onnx_file.load(onnx_file.make(function, signature, {}))
    assert call
    for batch in (1, 3):
        clips = np.random.default_rng(batch).integers(0, 255, (batch, *signature.shape), np.uint8)
        for found, want in zip(call(clips), jax.jit(function)(clips), strict=True):
            assert found.shape == want.shape
            np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    'format', [pytest.param(x, marks=pytest.mark.slow) for x in ('onnx', 'stablehlo', 'tflite')]
)
def test_exported_functions_take_samples(format: str) -> None:
    run = untrained(**NETWORKS['statistics'])
    signature = make_signature([run], True, 5.0)  # two segments, which are averaged
    function = make_function([run], signature)
    if format == 'onnx':
        pytest.importorskip('onnx')
        call = onnx_file.load(onnx_file.make(function, signature, {'labels': ['a']}))
    elif format == 'stablehlo':
        pytest.importorskip('flatbuffers')
        call = stablehlo.load(stablehlo.make(function, signature))
    else:
        pytest.importorskip('litert_converter')
        call = tflite.load(tflite.make(function, signature, 1))
    if call is None:
        pytest.skip('no runtime')
    clips, want = verify.inputs_and_probabilities([run], signature, [])
    difference = verify.largest_difference(call, clips, want, int(format == 'tflite'))
    assert difference < 1e-3
    assert verify.largest_difference(call, clips, 1 - want, int(format == 'tflite')) > 0.1


@pytest.mark.parametrize('format', ['onnx', 'tflite'])
def test_the_probabilities_of_several_labels_are_exported_for_any_logits(format: str) -> None:
    def function(logits: Any) -> Output:
        found = outputs.probabilities(outputs.combined(logits, True), True)
        return Output(found, outputs.probabilities(logits[:, 0], True))

    signature = Signature(False, (2, 3), 'float32', 0, 0.0)
    if format == 'onnx':
        pytest.importorskip('onnx')
        call = onnx_file.load(onnx_file.make(function, signature, {}))
    else:
        pytest.importorskip('litert_converter')
        call = tflite.load(tflite.make(function, signature, 2))
    if call is None:
        pytest.skip('no runtime')
    logits = np.array([[[-90, 0, 90], [-90, 1, 30]], [[3, -2, 0], [-4, 2, 0.5]]], np.float32)
    for found, want in zip(call(logits), function(jnp.asarray(logits)), strict=True):
        np.testing.assert_allclose(found, want, atol=1e-6)


def test_a_network_for_several_labels_is_exported() -> None:
    pytest.importorskip('flatbuffers')
    run = untrained(multi_label=True, kernels=(8,), hidden=8)
    signature = make_signature([run], False, 0)
    call = stablehlo.load(stablehlo.make(make_function([run], signature), signature))
    clips, want = verify.inputs_and_probabilities([run], signature, [])
    assert np.abs(want.sum(1) - 1).min() > 0.01  # not a softmax
    assert verify.largest_difference(call, clips, want, 0) < 1e-3


@pytest.mark.parametrize('unroll', [False, True])
@pytest.mark.parametrize('reverse', [False, True])
def test_a_scan_with_constants_carries_and_inputs_stays_the_same(
    reverse: bool, unroll: bool
) -> None:
    weights = jnp.arange(1.0, 4.0)

    def function(x: Any) -> Any:
        def step(carry: tuple, row: Any) -> tuple:
            total, count = carry
            total = total + row * weights
            return (total, count + 1), total * weights

        return jax.lax.scan(step, (weights, 0), x, reverse=reverse)

    x = jnp.arange(12.0).reshape(4, 3)
    (scan,) = [e for e in jax.make_jaxpr(function)(x).eqns if e.primitive.name == 'scan']
    assert scan_counts(scan) == (1, 2)
    found = jax.tree.leaves(portable(function, unroll=unroll)(x))
    for value, want in zip(found, jax.tree.leaves(function(x)), strict=True):
        np.testing.assert_allclose(value, want)


def test_stablehlo_is_compiled_for_cpus_gpus_and_tpus() -> None:
    pytest.importorskip('flatbuffers')
    run = untrained(kernels=(8, 8), hidden=8)  # its recurrence has a GPU kernel, which is not used
    signature = make_signature([run], False, 0)
    content = stablehlo.make(make_function([run], signature), signature)
    assert jax_export.deserialize(bytearray(content)).platforms == ('cpu', 'cuda', 'tpu')


def test_an_exported_folder_is_loaded_like_the_run(
    tones: Path, tones_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip('safetensors')
    song = tones / 'low' / '3.wav'
    run_export(tones_run, tmp_path / 'out', '--licence=cc0-1.0', str(song))
    assert "within 0 of the checkpoint's" in capsys.readouterr().err
    loaded, original = glr_jax.load(tmp_path / 'out'), glr_jax.load(tones_run)
    np.testing.assert_array_equal(loaded(song).clip, original(song).clip)
    about = json.loads((tmp_path / 'out' / 'model.json').read_text())
    assert about['labels'] == ['high', 'low', 'middle']
    assert about['meta']['config']['workdir'] == about['meta']['config']['data']['dir'] == ''
    card = (tmp_path / 'out' / 'README.md').read_text()
    for text in ('license: "cc0-1.0"', '95 % interval', 'high, low, middle', 'random'):
        assert text in card
    assert str(tones_run.parent) not in card


def test_an_export_of_several_labels_has_their_thresholds(
    chords: Path, tagged_run: Path, tmp_path: Path
) -> None:
    pytest.importorskip('safetensors')
    run_export(tagged_run, tmp_path / 'out', str(chords / '3.wav'))
    loaded, original = glr_jax.load(tmp_path / 'out'), glr_jax.load(tagged_run)
    assert (loaded.multi_label, loaded.thresholds) == (True, original.thresholds)
    one, other = loaded(chords / '3.wav'), original(chords / '3.wav')
    np.testing.assert_array_equal(one.clip, other.clip)
    assert one.decided == other.decided
    about = json.loads((tmp_path / 'out' / 'model.json').read_text())
    assert (about['multi_label'], about['thresholds']) == (True, list(original.thresholds))
    assert 'macro_roc_auc' in about['scores']
    assert 'accuracy' not in about['scores']
    card = (tmp_path / 'out' / 'README.md').read_text()
    for text in ('music-tagging', '| macro ROC-AUC |', 'Any number of labels', '.decided)'):
        assert text in card
    assert f'| low | {original.thresholds[1]:.3f} |' in card
    assert 'accuracy' not in card


def test_formats_are_added_to_a_folder_of_the_same_network_only(
    tones_run: Path, tmp_path: Path
) -> None:
    pytest.importorskip('flatbuffers')
    pytest.importorskip('safetensors')
    run_export(tones_run, tmp_path, '--licence=mine')
    run_export(tones_run, tmp_path, '--format=stablehlo')
    about = json.loads((tmp_path / 'model.json').read_text())
    assert list(about['files']) == ['model.safetensors', 'model.stablehlo']
    assert about['licence'] == 'mine'
    about['step'] += 1
    (tmp_path / 'model.json').write_text(json.dumps(about))
    with pytest.raises(UserError, match='holds the export of another network'):
        run_export(tones_run, tmp_path)


@pytest.mark.parametrize('name', ['song.wav', 'README.md', 'model.onnx', 'model.json'])
def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"name": "mine"}')
    with pytest.raises(UserError, match=r'is not empty and was not created by glr_jax\.export'):
        run_export(tmp_path / 'no run', tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == '{"name": "mine"}'
    with pytest.raises(UserError, match=r'--out=.* is a file; name a folder'):
        run_export(tmp_path / 'no run', tmp_path / name)


def test_an_export_that_was_killed_is_repeated(
    tones_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('safetensors')
    (tmp_path / 'model.json.partial-1').write_text('{')
    monkeypatch.setattr(card, 'make', interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_export(tones_run, tmp_path)
    monkeypatch.setattr(storage, 'to_write', interrupt_in('model.safetensors'))
    with pytest.raises(KeyboardInterrupt):
        run_export(tones_run, tmp_path / 'early')
    monkeypatch.undo()
    for folder in (tmp_path, tmp_path / 'early'):
        run_export(tones_run, folder)
        assert {'README.md', 'model.json', 'model.safetensors'} <= set(os.listdir(folder))


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def interrupt_in(name: str) -> Any:
    """`storage.to_write`, interrupted as it writes a file with this name."""
    usual = storage.to_write

    def to_write(path: str, **options: bool) -> Any:
        if os.path.basename(path) == name:
            raise KeyboardInterrupt
        return usual(path, **options)

    return to_write


def test_a_folder_of_runs_is_exported_as_their_mean(tones_run: Path, tmp_path: Path) -> None:
    pytest.importorskip('flatbuffers')
    for name in ('one', 'two'):
        (tmp_path / 'runs').mkdir(exist_ok=True)
        (tmp_path / 'runs' / name).symlink_to(tones_run)
    run_export(tmp_path / 'runs', tmp_path / 'out', '--format=stablehlo')
    with pytest.raises(UserError, match='2 runs, and safetensors holds one network'):
        run_export(tmp_path / 'runs', tmp_path / 'out')


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('model.safetensors', b'no', 'is damaged'),
        ('model.json', b'no', 'is damaged'),
        ('model.json', b'{}', 'is damaged'),
        ('model.json', None, 'has no model.json'),
    ],
)
def test_a_damaged_export_is_one_line(
    tones_run: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    pytest.importorskip('safetensors')
    run_export(tones_run, tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        glr_jax.load(tmp_path)


@pytest.mark.parametrize('name', ['model.safetensors', 'model.json'])
def test_a_flipped_bit_in_an_export_is_noticed(tones_run: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip('safetensors')
    run_export(tones_run, tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    number = content.find(b'"networks": 1') + len('"networks": ')
    place = number if name == 'model.json' else len(content) - 3
    content[place] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf'{name} is damaged: its checksum is wrong'):
        glr_jax.load(tmp_path)


def test_an_export_without_weights_for_this_project_says_so(
    tones_run: Path, tmp_path: Path
) -> None:
    pytest.importorskip('flatbuffers')
    run_export(tones_run, tmp_path, '--format=stablehlo')
    with pytest.raises(UserError, match='exported without weights for glr_jax'):
        glr_jax.load(tmp_path)


def test_weights_of_other_shapes_than_described_are_refused(
    tones_run: Path, tmp_path: Path
) -> None:
    pytest.importorskip('safetensors')
    run_export(tones_run, tmp_path)
    about = json.loads((tmp_path / 'model.json').read_text())
    about['meta']['config']['model']['hidden'] = 60_000  # of which no array may be allocated
    del about['checksum']
    (tmp_path / 'model.json').write_text(json.dumps(json_files.sealed(about)))
    with pytest.raises(UserError, match='has other arrays than'):
        glr_jax.load(tmp_path)


def test_a_file_that_differs_from_the_checkpoint_is_removed(
    tones_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('flatbuffers')
    monkeypatch.setattr(verify, 'largest_difference', lambda *_: 0.25)
    with pytest.raises(UserError, match=r'model\.stablehlo was removed: .* by up to 0\.25'):
        run_export(tones_run, tmp_path, '--format=stablehlo')
    assert not (tmp_path / 'model.stablehlo').exists()


def test_a_missing_package_is_named(
    tones_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'litert_converter', None)
    with pytest.raises(UserError, match='--format=tflite needs litert_converter; install'):
        run_export(tones_run, tmp_path, '--format=tflite')


def test_ready_made_spectrograms_have_no_audio() -> None:
    run = untrained()
    run = run._replace(meta=dataclasses.replace(run.meta, from_audio=False))
    with pytest.raises(UserError, match='leave out --from_audio'):
        make_signature([run], True, 0)


class Hub:
    """Stands for huggingface_hub."""

    def __init__(self, folder: Path):
        self.folder, self.calls = folder, []

    def module(self) -> SimpleNamespace:
        return SimpleNamespace(HfApi=lambda: self, snapshot_download=self.snapshot_download)

    def create_repo(self, name: str, **options: Any) -> str:
        self.calls.append(('create', name, options))
        return f'https://huggingface.co/{name}'

    def upload_folder(self, **options: Any) -> None:
        self.calls.append(('upload', options))

    def snapshot_download(self, name: str, **options: Any) -> str:
        self.calls.append(('download', name, options))
        if name == 'no/body':
            raise RuntimeError('404 not found\nwith details')
        return str(self.folder)


def test_a_network_goes_to_the_hub_and_back(
    tones: Path,
    tones_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    pytest.importorskip('safetensors')
    fake = Hub(tmp_path)
    monkeypatch.setitem(sys.modules, 'huggingface_hub', fake.module())
    run_export(tones_run, tmp_path)
    (tmp_path / 'private.txt').write_text('stays here')
    run_export(tones_run, tmp_path, '--hub=me/tones', '--licence=cc0-1.0')
    assert 'https://huggingface.co/me/tones' in capsys.readouterr().out
    created, uploaded = fake.calls
    assert created == ('create', 'me/tones', {'private': True, 'exist_ok': True})
    names = ['README.md', 'model.json', 'model.safetensors']
    assert uploaded[1]['allow_patterns'] == names
    song = tones / 'low' / '3.wav'
    tagger = glr_jax.load('hf:me/tones@v1')
    np.testing.assert_array_equal(tagger(song).clip, glr_jax.load(tones_run)(song).clip)
    _, name, options = fake.calls[-1]
    assert (name, options['revision']) == ('me/tones', 'v1')
    assert set(options['allow_patterns']) == set(names)
    with pytest.raises(UserError, match=r'hf:no/body cannot be fetched: 404 not found$'):
        glr_jax.load('hf:no/body')


@pytest.mark.parametrize('name', ['me', '../me/x', 'a/b/c', 'me/..', 'me/x y', '/x', 'me/'])
def test_the_name_of_a_repository_is_checked(name: str) -> None:
    with pytest.raises(UsageError, match='must be USER/NAME'):
        hub.download(f'hf:{name}')


def test_the_hub_needs_a_licence(tones_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='--hub needs --licence'):
        run_export(tones_run, tmp_path, '--hub=me/tones')
