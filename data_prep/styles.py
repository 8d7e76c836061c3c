"""The styles of the demo music and its instruments, as tables.

A style defines how its music moves: metre, rhythms, chord progressions, scale and register.
Rhythms are written as on a drum machine: the symbols of a pattern divide its bar evenly, so 16 are
sixteenths, and 12 are triplets, or sixteenths in three-four time. Chords are written in C major or
A minor and transposed.
"""

import dataclasses
from collections.abc import Sequence

NOTES = {'C': 0, 'Db': 1, 'D': 2, 'Eb': 3, 'E': 4, 'F': 5, 'Gb': 6, 'G': 7, 'Ab': 8, 'A': 9}
NOTES |= {'Bb': 10, 'B': 11}
CHORDS = {  # semitones above the root
    '': (0, 4, 7, 12),
    'm': (0, 3, 7, 12),
    '5': (0, 7, 12, 19),
    '7': (0, 4, 7, 10),
    'm7': (0, 3, 7, 10),
    'maj7': (0, 4, 7, 11),
    'sus': (0, 5, 7, 14),
}


@dataclasses.dataclass(frozen=True)
class Style:
    """What the clips of a style have in common; each clip or bar draws one of several patterns.

    Attributes:
      tempo: lowest and highest, in beats per minute.
      beats: beats per bar.
      scale: notes of the melody.
      progressions: chords, one per bar.
      bass: patterns of `1357`, tones of the chord; `8`, its root an octave up; `>`, a semitone
        below the root of the next chord; `-`, held; `.`, silent.
      chords: patterns of `x`, the whole chord, and of the symbols for `bass`.
      lead: patterns of `o`, a step of the melody; `-` and `.`.
      drums: one pattern of `x` and `.` each for kick, snare and hi-hat.
      instruments: keys of `TIMBRES` to choose from for bass, chords and lead.
      touch: shortest attack in seconds, and how long notes sound relative to their length.
      volume: levels in the course of a bar, 9 being the loudest.
      neighbour: the style that a clip may borrow a trait from.
    """

    tempo: tuple[float, float]
    beats: int
    scale: str
    progressions: Sequence[str]
    bass: Sequence[str]
    chords: Sequence[str]
    lead: Sequence[str]
    drums: tuple[str, str, str]
    instruments: tuple[str, str, str]
    touch: tuple[float, float]
    volume: str
    neighbour: str


STYLES = {
    'ambient': Style(
        tempo=(60, 84),
        beats=4,
        scale='C D E G A B',
        progressions=('Cmaj7 Em7 Fmaj7 Am7', 'Am7 Fmaj7 Csus Gsus', 'Fmaj7 Fmaj7 Em7 Am7'),
        bass=('1-------', '1-----5-'),
        chords=('x-------', '1-3-5-7-', 'x---x---'),
        lead=('..o---o-', 'o-----..', '....o---', '........'),
        drums=('x.......', '........', '..x...x.'),
        instruments=(
            'sub organ strings cello',
            'strings choir organ bell piano saw',
            'flute bell reed saw',
        ),
        touch=(0.4, 1.2),
        volume='35798653',
        neighbour='baroque',
    ),
    'baroque': Style(
        tempo=(66, 96),
        beats=2,
        scale='A B C D E F G',
        progressions=('Am Dm G C F Dm E Am', 'C F G C Am Dm G C', 'Am E Am G C G C E'),
        bass=('1-3-5-8-', '1-8-5-3-', '1-5-3->-'),
        chords=('1-5-3-5-', '1-3-5-3-'),
        lead=('oooooooo', 'o-oooooo', 'oooo-ooo'),
        drums=('........', '........', '........'),
        instruments=(
            'cello organ pluck',
            'harpsichord organ piano guitar saw',
            'harpsichord flute strings reed',
        ),
        touch=(0, 0.9),
        volume='9',
        neighbour='waltz',
    ),
    'blues': Style(
        tempo=(66, 92),
        beats=4,
        scale='C Eb F Gb G Bb',
        progressions=('C7 F7 C7 C7 F7 F7 C7 C7 G7 F7 C7 G7', 'C7 C7 F7 C7 G7 F7 C7 G7'),
        bass=('1-13-35-57-5', '1-15-51-15->'),
        chords=('xxxxxxxxxxxx', 'x-xx-xx-xx-x'),
        lead=('o-oo-o--....', '..oo-oo-----', '......oo-oo-'),
        drums=('x.....x.....', '...x.....x..', 'x.xx.xx.xx.x'),
        instruments=(
            'pluck fuzz sub organ cello',
            'piano guitar organ fuzz reed',
            'guitar piano reed fuzz',
        ),
        touch=(0, 0.6),
        volume='969696969696969696969696',
        neighbour='reggae',
    ),
    'bossa': Style(
        tempo=(104, 140),
        beats=4,
        scale='C D E F G A B',
        progressions=('Dm7 G7 Cmaj7 A7', 'Cmaj7 D7 Dm7 G7', 'Am7 Dm7 G7 Cmaj7'),
        bass=('1-----5-5-----1-', '1-----5-1-----5-'),
        chords=('x--x--x---x--x--', 'x-----x---x-----'),
        lead=('..o-.o--o--o--..', 'o--o--o---......'),
        drums=('x..xx..xx..xx..x', 'x..x..x...x..x..', 'xxxxxxxxxxxxxxxx'),
        instruments=(
            'pluck sub cello organ',
            'guitar piano bell organ reed',
            'flute reed guitar piano saw',
        ),
        touch=(0.02, 1.1),
        volume='9',
        neighbour='reggae',
    ),
    'metal': Style(
        tempo=(88, 116),
        beats=4,
        scale='E F G A B C D',
        progressions=('E5 F5 E5 G5', 'E5 E5 G5 F5', 'E5 C5 D5 F5'),
        bass=('1-111-111-111-11', '1-1-1-111-1-1-11'),
        chords=('x-xxx-xxx-xxx-xx', 'x-x-x-xxx-x-x-xx'),
        lead=('oooooooo--------', 'o---o---oooooooo', '................'),
        drums=('x.xxx.xxx.xxx.xx', '....x.......x...', 'x...x...x...x...'),
        instruments=('pluck fuzz saw cello', 'fuzz guitar saw reed', 'fuzz saw reed guitar'),
        touch=(0, 0.6),
        volume='9',
        neighbour='techno',
    ),
    'reggae': Style(
        tempo=(124, 156),
        beats=4,
        scale='A C D E G',
        progressions=('Am Dm Am Em', 'C G Am F', 'Am G Am G'),
        bass=('1--.1-3-5---....', '....1-1-3-5-1---', '1--5--1-..3-5---'),
        chords=('....x.......x...', '....x.x.....x.x.'),
        lead=('....o--o--o-....', '................'),
        drums=('........x.......', '........x.......', 'x...x...x...x...'),
        instruments=(
            'sub pluck saw cello',
            'organ guitar piano fuzz reed',
            'reed organ guitar flute saw',
        ),
        touch=(0, 0.6),
        volume='9',
        neighbour='bossa',
    ),
    'techno': Style(
        tempo=(118, 142),
        beats=4,
        scale='A C D E G',
        progressions=('Am7 Am7 Am7 Am7', 'Am Am G G', 'Am7 Am7 Dm7 Em7'),
        bass=('..1...1...1...1.', '..11..11..11..11'),
        chords=('..x...x...x...x.', '...x..x....x..x.'),
        lead=('o.ooo.ooo.ooo.oo', '..o...o...o...o.'),
        drums=('x...x...x...x...', '....x.......x...', '..x...x...x...x.'),
        instruments=(
            'saw sub fuzz pluck',
            'saw strings organ piano fuzz',
            'saw bell fuzz reed harpsichord',
        ),
        touch=(0, 0.5),
        volume='2589258925892589',
        neighbour='metal',
    ),
    'waltz': Style(
        tempo=(112, 168),
        beats=3,
        scale='C D E F G A B',
        progressions=('C C G7 G7 G7 G7 C C', 'C Am Dm G7', 'C G7 C F C G7'),
        bass=('1-....', '5-....'),
        chords=('..x.x.', '..x-x-'),
        lead=('o---o-', 'o-o-o-', 'o-----', 'o--oo-'),
        drums=('x.....', '..x.x.', '......'),
        instruments=(
            'cello pluck sub organ',
            'piano strings reed guitar organ saw',
            'reed flute strings piano saw',
        ),
        touch=(0.02, 0.7),
        volume='98675645',
        neighbour='baroque',
    ),
}


@dataclasses.dataclass(frozen=True)
class Timbre:
    """The sound of an instrument."""

    slope: float  # the amplitude of partial n is n ** -slope
    even: float  # relative amplitude of the even partials
    attack: float  # seconds
    decay: float  # seconds to 1 / e
    mellow: float  # seconds to 1 / e of the upper partials
    vibrato: float  # relative change of the frequency


TIMBRES = {
    'bell': Timbre(1.2, 0.2, 0.003, 0.8, 0.3, 0.0),
    'cello': Timbre(1.3, 0.8, 0.060, 3.0, 9.0, 0.004),
    'choir': Timbre(2.0, 0.7, 0.250, 9.0, 9.0, 0.006),
    'flute': Timbre(2.4, 0.5, 0.040, 9.0, 9.0, 0.006),
    'fuzz': Timbre(0.8, 0.7, 0.004, 0.3, 2.0, 0.001),
    'guitar': Timbre(1.2, 0.9, 0.003, 0.5, 0.2, 0.0),
    'harpsichord': Timbre(0.8, 1.0, 0.002, 0.4, 0.3, 0.0),
    'organ': Timbre(1.5, 1.0, 0.015, 9.0, 9.0, 0.002),
    'piano': Timbre(1.6, 0.9, 0.004, 0.7, 0.3, 0.0),
    'pluck': Timbre(1.6, 1.0, 0.005, 0.6, 0.1, 0.0),
    'reed': Timbre(0.9, 0.4, 0.030, 9.0, 9.0, 0.003),
    'saw': Timbre(1.0, 1.0, 0.005, 0.6, 0.1, 0.0),
    'strings': Timbre(1.1, 1.0, 0.120, 9.0, 9.0, 0.003),
    'sub': Timbre(2.5, 0.5, 0.008, 1.5, 0.2, 0.0),
}
