"""The clips of the demo music: with their style as the label, or with several labels each."""

import dataclasses
import functools
import io
import os
from collections.abc import Callable

import numpy as np
import soundfile
from jaxtyping import Num

from data_prep import splits
from data_prep.clips import Clip
from data_prep.styles import CHORDS, STYLES, Style
from glr_jax import storage
from glr_jax.data.mel import FrontEnd, mel_of_samples
from glr_jax.data.records import SIDES

CLIPS_PER_STYLE = 30
TAGGED_CLIPS_PER_STYLE = 60
SLOW, FAST = 90, 125  # beats per minute
MODES = {3: 'minor mode', 4: 'major mode'}  # by the third of the first chord
NO_MELODY = 0.25  # of the tagged clips


@dataclasses.dataclass(frozen=True)
class Traits:
    """What is drawn in advance for a clip with several labels, so that they are known.

    Attributes:
      style: a key of `STYLES`.
      tempo: in beats per minute.
      progression: chords, one per bar.
      instruments: keys of `TIMBRES` for bass, chords and, unless there is no melody, lead.
    """

    style: str
    tempo: float
    progression: str
    instruments: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The style, a tempo band, the mode, and the instruments that play."""
        band = 'slow' if self.tempo < SLOW else 'fast' if self.tempo > FAST else 'medium'
        names = {self.style, f'{band} tempo', *self.instruments}
        third = CHORDS[self.progression.split()[0][1:]][1]
        if third in MODES:
            names.add(MODES[third])
        return tuple(sorted(names))

    def within(self, style: Style) -> Style:
        """A style that leaves only these traits open to chance."""
        has_melody = len(self.instruments) == 3
        lead = [pattern for pattern in style.lead if ('o' in pattern) == has_melody]
        rest = '.' * len(style.lead[0])
        instruments = self.instruments if has_melody else (*self.instruments, self.instruments[0])
        bass, chords, melody = instruments
        return dataclasses.replace(
            style,
            tempo=(self.tempo, self.tempo),
            progressions=(self.progression,),
            instruments=(bass, chords, melody),
            lead=lead or [rest],
        )


def draw_traits(style: str, seed: int) -> Traits:
    """The traits of a clip; the same style and seed always give the same ones."""
    table = STYLES[style]
    rng = np.random.default_rng([list(STYLES).index(style), seed, 1])
    tempo = float(rng.uniform(*table.tempo))
    progression = str(rng.choice(table.progressions))
    instruments = tuple(str(rng.choice(pool.split())) for pool in table.instruments)
    return Traits(style, tempo, progression, instruments[: 2 if rng.random() < NO_MELODY else 3])


def demo_clips() -> list[Clip]:
    """Synthesised music in several styles, the same on every machine; downloads nothing."""
    return [_clip(style, seed, style, None) for style in STYLES for seed in range(CLIPS_PER_STYLE)]


def tagged_demo_clips() -> list[Clip]:
    """The same kind of music; the labels of a clip are its style, tempo, mode and instruments."""
    found = [draw_traits(style, seed) for style in STYLES for seed in range(TAGGED_CLIPS_PER_STYLE)]
    return [
        _clip(traits.style, k % TAGGED_CLIPS_PER_STYLE, traits.labels, traits)
        for k, traits in enumerate(found)
    ]


def write_audio(out: str, clips: list[Clip]) -> None:
    """Writes a clip of each style as `OUT/audio/STYLE.NNN.wav`, to listen to and to tag.

    They are test clips of the default split, so that no model has been trained on them.

    Args:
      out: the dataset folder.
      clips: all demo clips.
    """
    from data_prep import demo  # imports SciPy, which takes a second

    folder = os.path.join(out, 'audio')
    storage.make_folder(folder)
    ids = [clip.id for clip in clips]
    several, clip_labels = clips[0].multi_label, [clip.label for clip in clips]
    split: Callable[..., list[str]] = splits.stratified_split if several else splits.random_split
    sides = dict(zip(ids, split(ids, clip_labels, 1), strict=True))
    rate = FrontEnd().sample_rate
    for style in STYLES:
        id = next(id for id in ids if id.startswith(f'{style}.') and sides[id] == SIDES[2])
        seed = int(id.rpartition('.')[2])
        narrow = draw_traits(style, seed).within if several else None
        with storage.to_write(os.path.join(folder, f'{id}.wav')) as local:
            samples = demo.synthesise(style, seed, rate, narrow)
            content = io.BytesIO()  # soundfile itself does not say why a file cannot be written
            soundfile.write(content, samples, rate, format='WAV', subtype='PCM_16')
            with open(local, 'wb') as file:
                file.write(content.getbuffer())


def _clip(style: str, seed: int, label: str | tuple[str, ...], traits: Traits | None) -> Clip:
    kind = 'demo' if traits is None else 'demo_tags'
    return Clip(
        id=f'{style}.{seed:03d}',
        label=label,
        mel=functools.partial(_mel, style, seed, traits),
        path=f'{kind}:{style}.{seed:03d}',
    )


def _mel(
    style: str, seed: int, traits: Traits | None, front_end: FrontEnd
) -> Num[np.ndarray, 'frames mels']:
    from data_prep import demo

    narrow = traits.within if traits else None
    samples = demo.synthesise(style, seed, front_end.sample_rate, narrow)
    return mel_of_samples(samples, front_end)
