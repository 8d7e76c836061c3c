"""Tags audio from Python: `glr_jax.load('runs/demo')('song.mp3').top(3)`.

    tagger = glr_jax.load('runs/demo')
    prediction = tagger('song.mp3')  # or a list, or (samples, sample_rate)
    prediction.label  # 'rock'
    prediction.top(3)  # [('rock', 0.81), ('metal', 0.12), ('blues', 0.03)]
    prediction.decided  # ('rock',); of several labels per clip, those at or above their thresholds
    prediction.over_time()  # the same per segment, with its start and end in seconds
    prediction.embedding  # a vector for similarity search and other classifiers

A folder of runs works too: the probabilities of its runs are averaged. The first call compiles for
the first batch, later ones take as long as decoding and the network.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
from jaxtyping import Float, Num

from glr_jax import inference
from glr_jax.data.decode_pool import Decoded, Failure, Read, decode
from glr_jax.data.mel import FrontEnd, mel_of_waveform
from glr_jax.data.segments import segment_starts
from glr_jax.devices import startup
from glr_jax.errors import ClipError, UserError
from glr_jax.run.checkpoint import Best
from glr_jax.text import counted, printable, shorten
from glr_jax.trained import predictor, restore, thresholds

_SHOWN = 10  # labels, in the representation of a tagger or a prediction
Mel = Num[np.ndarray, '_ mels']
_ACCEPTED = (
    'audio must be the path of a file, samples with their rate as (samples, sample_rate), or a '
    'list of these'
)
Audio = str | os.PathLike[str] | tuple[Any, int]  # a file, or (samples, sample_rate)


class Moment(NamedTuple):
    """What a network says about one segment of a clip.

    Attributes:
      start: of the segment, in seconds.
      end: of the segment, in seconds.
      label: the most probable one.
      probabilities: {label: probability}.
      decided: as `Prediction.decided`.
    """

    start: float
    end: float
    label: str
    probabilities: dict[str, float]
    decided: tuple[str, ...]


def decide(
    probabilities: Mapping[str, float], thresholds: Sequence[float], threshold: float = 0.0
) -> tuple[str, ...]:
    """The labels that a network decides for, the most probable first.

    Args:
      probabilities: {label: probability}.
      thresholds: of each label, if clips may have several labels or none: those at or above their
        thresholds are decided. (): each clip has exactly one label, the most probable one.
      threshold: the least probability of a decided label, instead of `thresholds`; 0: none.
    """
    ranked = sorted(probabilities, key=lambda label: -probabilities[label])
    if not thresholds:
        return tuple(ranked[:1]) if probabilities[ranked[0]] >= threshold else ()
    least = dict(zip(probabilities, thresholds, strict=True))
    return tuple(label for label in ranked if probabilities[label] >= (threshold or least[label]))


@dataclasses.dataclass(frozen=True, repr=False)
class Prediction:
    """What a network, or the mean of several, says about a clip.

    Attributes:
      path: of the file; '' for samples.
      labels: the class names, in the order of the probabilities.
      clip: the probability of each label: the mean over the segments.
      segments: the same per segment.
      times: start and end of each segment, in seconds.
      embedding: what the output layers read, mean over the segments; of several networks, one
        after the other.
      thresholds: the probability from which each label is decided, if clips may have several
        labels or none; (): each clip has exactly one.
    """

    path: str
    labels: tuple[str, ...]
    clip: Float[np.ndarray, ' labels']
    segments: Float[np.ndarray, 'segments labels']
    times: Float[np.ndarray, 'segments 2']
    embedding: Float[np.ndarray, ' units']
    thresholds: tuple[float, ...] = ()

    def __repr__(self) -> str:
        probabilities, decided = self.probabilities, self.decided
        several = bool(self.thresholds and decided)
        shown = decided[:_SHOWN] if several else [label for label, _ in self.top()]
        best = ', '.join(f'{label} {probabilities[label]:.3f}' for label in shown)
        best += ', ...' if several and len(decided) > _SHOWN else ''
        counts = f'{len(decided)} of {len(self.labels)} labels decided'
        return f'Prediction({self.path!r}: {best}{f"; {counts}" if self.thresholds else ""})'

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.labels[int(np.argmax(self.clip))]

    @property
    def decided(self) -> tuple[str, ...]:
        """The decided labels, the most probable first.

        If clips may have several labels, those at or above their thresholds, which may be none;
        else the most probable label alone.
        """
        return decide(self.probabilities, self.thresholds)

    @property
    def probabilities(self) -> dict[str, float]:
        """The probability of each label, in their order."""
        return dict(zip(self.labels, map(float, self.clip), strict=True))

    def top(self, count: int = 3) -> list[tuple[str, float]]:
        """The most probable labels with their probabilities, the highest first."""
        best = np.argsort(-self.clip, kind='stable')[:count]
        return [(self.labels[k], float(self.clip[k])) for k in best]

    def over_time(self) -> list[Moment]:
        """The prediction per segment; more of them with `load(..., test_crops=4)`."""
        moments = []
        for (start, end), row in zip(self.times, self.segments, strict=True):
            found = dict(zip(self.labels, map(float, row), strict=True))
            label, decided = self.labels[int(row.argmax())], decide(found, self.thresholds)
            moments.append(Moment(float(start), float(end), label, found, decided))
        return moments


class Tagger:
    """Trained networks that tag audio; made by `load`.

    Args:
      runs: the best checkpoints, with the same labels and front end.
      batch_size: segments per batch.
      test_crops: as `--data.test_crops`; 0: each run's own.

    Attributes:
      labels: the class names.
      multi_label: whether a clip may have several labels or none.
      thresholds: the probability from which each label is decided; () where each clip has exactly
        one label.
      front_end: how audio becomes a spectrogram.
      networks: the workdir and the step of each checkpoint, as texts.
    """

    def __init__(self, runs: Sequence[Best], batch_size: int = 16, test_crops: int = 0):
        meta = runs[0].meta  # its labels and front end are those of every run
        self.labels: tuple[str, ...] = meta.labels
        self.multi_label: bool = meta.multi_label
        self.thresholds = thresholds(runs)
        self.front_end: FrontEnd = meta.front_end
        self.networks = tuple(f'{os.path.realpath(run.workdir)} at step {run.step}' for run in runs)
        self._kinds = tuple(run.meta.config.model.kind for run in runs)
        self._from_audio, self._workdir = meta.from_audio, runs[0].workdir
        self._predictors = [predictor(run, batch_size, test_crops) for run in runs]

    def __repr__(self) -> str:
        names = ', '.join(self.labels[:_SHOWN]) + (', ...' if len(self.labels) > _SHOWN else '')
        kinds, several = '/'.join(dict.fromkeys(self._kinds)), len(self.networks) - 1
        others = f' and {counted(several, "more network")}, averaged' if several else ''
        task = ', any number per clip' if self.multi_label else ''
        labels = f'{counted(len(self.labels), "label")}{task}: {names}'
        return printable(f'Tagger({kinds} of {self.networks[0]}{others}; {labels})')

    @overload  # a str is a sequence too, but of no audio
    def __call__(self, audio: Audio) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, audio: Sequence[Audio]) -> list[Prediction]: ...

    def __call__(self, audio: Any) -> Prediction | list[Prediction]:
        """Tags one clip, or several in batches.

        Args:
          audio: a file; or samples with their rate in Hz: mono, or with their channels on the
            shorter axis, as floats in -1..1 or as integers; or a list of these.

        Raises:
          ClipError: audio cannot be read; the message names the file.
          TypeError: it is none of these.
          UserError: the networks were trained on ready-made spectrograms.
        """
        one = isinstance(audio, str | os.PathLike | tuple)
        single = isinstance(audio, bytes | np.ndarray) or hasattr(audio, 'read')
        if not one and (single or not isinstance(audio, Iterable)):
            raise TypeError(_refusal(audio))
        self.check_audio()
        found = []
        for tagged in self.tag_mels(map(self._read, [audio] if one else audio)):
            if isinstance(tagged, Failure):
                raise ClipError(f'{tagged.path or "the samples"}: {tagged.reason}')
            found.append(tagged)
        return found[0] if one else found

    def tag(self, audio: Iterable[Audio]) -> Iterator[Prediction | Failure]:
        """Tags any number of clips in batches, in order; reads only as far as it must.

        Args:
          audio: as for a call.

        Raises:
          TypeError: an item is not audio.
          UserError: the networks were trained on ready-made spectrograms.
        """
        self.check_audio()
        return self.tag_mels(map(self._read, audio))

    def check_audio(self) -> None:
        """Raises `UserError` if the networks were trained on ready-made spectrograms."""
        if not self._from_audio:
            raise UserError(
                f'{self._workdir} was trained on ready-made spectrograms, so it cannot tag audio; '
                'train on a dataset made from audio files'
            )

    def tag_mels(self, mels: Iterable[Decoded]) -> Iterator[Prediction | Failure]:
        """Tags spectrograms as `data_prep` stores them, a full batch of segments at a time.

        Args:
          mels: each with its name; failures are passed on in their place.
        """
        waiting: list[Decoded] = []
        segments = np.zeros(len(self._predictors), int)
        for each in mels:
            waiting.append(each)
            if not isinstance(each, Failure):
                length = len(each.mel)
                segments += [
                    len(segment_starts(length, p.frames, p.test_crops)) for p in self._predictors
                ]
            sizes = [p.batch_size for p in self._predictors]
            if (segments >= sizes).all() or not segments.any():
                yield from self._decide(waiting)
                waiting, segments = [], np.zeros(len(self._predictors), int)
        yield from self._decide(waiting)

    def _read(self, audio: Any) -> Decoded:
        if isinstance(audio, str | os.PathLike):
            return decode(os.fspath(audio), self.front_end)
        if not isinstance(audio, tuple) or len(audio) != 2:
            raise TypeError(_refusal(audio))
        try:
            return Read('', mel_of_waveform(np.asarray(audio[0]), audio[1], self.front_end))
        except (ClipError, MemoryError) as error:
            return Failure('', str(error) or 'does not fit into memory')

    def _decide(self, waiting: Sequence[Decoded]) -> Iterator[Prediction | Failure]:
        mels = [each.mel for each in waiting if not isinstance(each, Failure)]
        decided = iter(self._predictions(mels) if mels else [])
        for each in waiting:
            if isinstance(each, Failure):
                yield each
            else:
                yield dataclasses.replace(next(decided), path=each.path)

    def _predictions(self, mels: Sequence[Mel]) -> Iterator[Prediction]:
        seconds = self.front_end.hop_length / self.front_end.sample_rate
        decisions = [inference.decide(each, mels) for each in self._predictors]
        clips = np.mean([each.clips for each in decisions], 0)
        embeddings = np.concatenate([each.embeddings for each in decisions], 1)
        over_time = inference.over_time(self._predictors, decisions, [len(mel) for mel in mels])
        for clip, (spans, segments) in enumerate(over_time):
            times = spans * seconds
            found = clips[clip], segments, times, embeddings[clip]
            yield Prediction('', self.labels, *found, self.thresholds)


def _refusal(audio: Any) -> str:
    if isinstance(audio, np.ndarray):
        return (
            f'{_ACCEPTED}; samples alone lack their rate: (samples, 44100) if they are at 44.1 kHz'
        )
    if hasattr(audio, 'read'):
        return f'{_ACCEPTED}; an open file is not accepted: give its path'
    shown = shorten(printable(repr(audio)), 60)
    return f'{_ACCEPTED}; not {shown}, of type {type(audio).__name__}'


def load(workdir: str | os.PathLike[str], batch_size: int = 16, test_crops: int = 0) -> Tagger:
    """The best checkpoint of a run, or of every run in a folder, ready to tag audio.

    Args:
      workdir: of the run, or a folder of runs, whose probabilities are averaged; or an exported
        network: its folder, or `hf:USER/NAME` on the Hugging Face Hub.
      batch_size: segments per batch.
      test_crops: cut this many times as many segments from each clip; 0: the run's own setting.

    Raises:
      UserError: there is no checkpoint, or the runs have other labels or front ends.
    """
    startup.enable_compilation_cache()
    return Tagger(restore(os.fspath(workdir)), batch_size, test_crops)
