"""The READMEs: every command and snippet in them works; every file, link and flag exists.

A command runs in this process with the flags of the README and those in TINY, which make it small.
What needs other machines or many minutes is only parsed. A command without a rule fails the test:
add it to TINY, to ONLY_PARSED or to `check`.
"""

import importlib
import itertools
import re
import shlex
import subprocess
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import demo_clips, sources
from experiments import paper, recurrence
from glr_jax import cli, train
from tests import test_fma, test_mtat, test_mtg_jamendo, test_tags
from tests.documents import ROOT, Command, all_commands, anchors, blocks, prose
from tests.test_launch import script

READMES = [
    ROOT / 'README.md',
    *(ROOT / part / 'README.md' for part in ('glr_jax', 'data_prep', 'experiments', 'launch')),
    *sorted((ROOT / 'experiments' / 'guides').glob('*.md')),
]
PARTS = ('glr_jax', 'data_prep', 'experiments', 'launch', 'tests')
# The commands of these are parsed, but not run.
RECORDS = [ROOT / 'experiments' / 'RESULTS.md', *sorted((ROOT / 'experiments').glob('*.flags'))]

BATCH = ['--data.frames=8', '--train.batch_size=8']
MODEL = ['--model.kernels=8', '--model.pool=2', '--train.epochs=1', '--model.front=conv']
# Flags that make each command small; {new} is a new folder.
TINY = {
    'data_prep': ['--num_workers=1', '--out={new}'],
    'data_prep.inspect': [],
    'glr_jax.train': [
        '--workdir={new}',
        '--data.split=random-1',
        '--model.kind=cnn',
        *BATCH,
        *MODEL,
    ],
    'glr_jax.compare': [],
    'glr_jax.evaluate': [],
    'glr_jax.predict': [],
    'experiments.baselines': ['--data.split=random-1'],
    'experiments.crossvalidate': [
        *('--out={new}', '--splits=random-1', '--model.kind=cnn'),
        *(*BATCH, *MODEL),
    ],
    'experiments.ensemble': [],
    'experiments.batch_size': [
        *('--out={new}', '--cpu_devices=0', '--norms=glr', '--per_device=8', '--iterations=1'),
        *('--repeats=1', '--model.kind=cnn', *BATCH, *MODEL),
    ],
    'experiments.gaps': [],
    'experiments.preparation': ['--clips=6', '--seconds=0.3', '--rounds=1', '--num_workers=1'],
    'experiments.prediction': ['--clips=3', '--seconds=2', '--rounds=1', '--num_workers=1'],
    'experiments.tagging_scale': ['--clips=100', '--labels=3'],
    'experiments.recurrence': ['--batches=2', '--steps=3', '--hidden=8', '--repeats=1'],
    'experiments.reproduce': [
        *('--out={new}', '--models=cnn+glr', '--iterations=1', '--epochs=1', '--protocol=random'),
        *(*BATCH, *MODEL[:2]),
    ],
    'experiments.search': ['--out={new}', '--budget=1', '--model.kind=cnn', *BATCH],
    'experiments.throughput': [
        *(
            '--peer=none',
            '--default.batch_size=0',
            '--1d.batch_size=2',
            '--1d.frames=16',
            '--2d.batch_size=0',
        ),
        *('--n_mels=12', '--repeats=1', '--model.kernels=4', '--model.hidden=5'),
    ],
}
OPTIMUM = paper.OPTIMUM | {'layers': 1, 'kernels': 8, 'hidden': 8, 'epochs': 1}
ONLY_PARSED = {'experiments.tpu_compile', 'experiments.gpu_compile'}  # other compilers, minutes
ONLY_PARSED |= {'glr_jax.export', 'glr_jax.serve'}  # packages that may be missing; runs for ever
SLOW = {'experiments.prediction', 'experiments.recurrence', 'experiments.throughput'}
SLOW |= {'experiments.tagging_scale', 'experiments.batch_size', 'experiments.reproduce'}
SLOW |= {'experiments.crossvalidate', 'experiments.search'}
ELSEWHERE = re.compile(r'/shared/|/mnt/|://|--parallel\.coordinator|--runner=beam')


@pytest.fixture(scope='module')
def sandbox(
    prepared: Path,
    music: Path,
    tagged_dataset: Path,
    tagged_run: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with small files at the relative paths of the READMEs."""
    folder = tmp_path_factory.mktemp('sandbox')
    for name in ('experiments', 'launch'):
        (folder / name).symlink_to(ROOT / name)
    for name in ('data', 'runs', 'more_songs'):
        (folder / name).mkdir()
    for name in ('music', 'other_music'):
        (folder / name).symlink_to(music)
    (folder / 'dataset').symlink_to(prepared)
    for name in ('tagged', 'demo_tags'):
        (folder / 'data' / name).symlink_to(tagged_dataset)
    (folder / 'runs' / 'tagged').symlink_to(tagged_run)
    (folder / 'data' / 'demo').mkdir()
    for path in prepared.iterdir():
        (folder / 'data' / 'demo' / path.name).symlink_to(path)
    test_fma.layout(folder / 'FMA', test_fma.TRACKS)
    test_mtat.layout(folder / 'MTAT', empty=())
    test_mtg_jamendo.layout(folder / 'MTG-Jamendo')
    rng = np.random.default_rng(0)
    audio = [
        f'GTZAN/genres/{genre}/{genre}.{k:05}.wav'
        for genre in sources.GTZAN_GENRES
        for k in range(3)
    ]
    for name in ['song.mp3', 'more_songs/one.wav', 'data/demo/audio/blues.wav', *audio]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, 0.1 * rng.standard_normal(4000), 22050)
    ids = sorted(path.relative_to(music) for path in music.glob('*/*.wav'))
    sides = ['train', 'dev', 'eval', *['train'] * 5]
    rows = [f'{id},{id.parts[0]},{k % 9},{sides[k % 8]}' for k, id in enumerate(ids)]
    (folder / 'tracks.csv').write_text('\n'.join(['filename,genre,artist,set', *rows]))
    labels = [f'{id.parts[0]}|loud' if k % 2 else id.parts[0] for k, id in enumerate(ids)]
    rows = [f'{id},{cell}' for id, cell in zip(ids, labels, strict=True)]
    (folder / 'tagged.csv').write_text('\n'.join(['path,labels', *rows]))
    for k in range(8):
        test_tags.tagged(folder / 'songs' / f'{k}.mp3', ['Jazz' if k % 2 else 'Pop'], [f'{k}'])
    mel, label = rng.integers(0, 256, (6, 8, 16), np.uint8), 3 * ['a', 'b']
    np.savez(folder / 'mel.npz', mel=mel, label=label, id=list('abcdef'))
    flags = [f'--data.dir={prepared}', f'--workdir={folder / "run"}', '--profile=2', *BATCH, *MODEL]
    train.main(['train', *flags, '--model.kind=cnn'])
    return folder


def make_folders(sandbox: Path, text: str) -> None:
    """Makes the datasets and runs that a text names."""
    for kind, name in re.findall(r'\b(data|runs)/([\w-]+)', text):
        link = sandbox / kind / name
        if not link.exists():
            link.symlink_to(sandbox / {'data': 'dataset', 'runs': 'run'}[kind])
    if 'exported' in text and not (sandbox / 'exported').exists():
        (sandbox / 'exported').symlink_to(sandbox / 'run')


@pytest.fixture
def check(
    sandbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Command], None]:
    """Runs a command as far as this machine can; fails if it does not work or has no rule."""
    monkeypatch.chdir(sandbox)
    monkeypatch.setattr(demo_clips, 'CLIPS_PER_STYLE', 3)
    monkeypatch.setattr(demo_clips, 'TAGGED_CLIPS_PER_STYLE', 3)
    monkeypatch.setattr(paper, 'OPTIMUM', OPTIMUM)
    monkeypatch.setattr(recurrence, 'SIZES', [])
    monkeypatch.setattr(recurrence, 'TOLERANCES', {'float32': 1e-4})

    def python(command: Command, module: str, arguments: list[str]) -> None:
        make_folders(sandbox, ' '.join(arguments))
        if module in ONLY_PARSED or ELSEWHERE.search(' '.join(arguments)):
            parse(module, arguments)
            return
        assert module in TINY, f'{command} has no rule: add {module} to TINY or ONLY_PARSED'
        tiny = [flag.format(new=tmp_path / 'new') for flag in TINY[module]]
        main_of(module)([module, *arguments, *tiny])

    def launch(*words: str) -> None:
        """Runs a launch script with a python that only prints its arguments."""
        stub = script(tmp_path / 'python', '[ "$1" = -c ] && echo 12345 || echo "$@"')
        done = subprocess.run(
            words,
            env={'PATH': '/usr/bin:/bin', 'PYTHON': str(stub)},
            capture_output=True,
            text=True,
            check=True,
        )
        lines = done.stdout.splitlines()
        texts = [*lines, *(word for line in lines for word in shlex.split(line))]
        starts = [re.match(r'(?:--command=\S+ )?-m glr_jax\.train (.*)', text) for text in texts]
        trained = [start[1] for start in starts if start]
        assert trained
        for flags in trained:
            parse('glr_jax.train', shlex.split(flags))

    def check(command: Command) -> None:
        words = list(itertools.dropwhile(lambda word: re.match(r'[A-Z]+=', word), command.words))
        match words:
            case (
                ['python3', '-m', 'venv', _]
                | ['.', '.venv/bin/activate']
                | ['python', '-m', 'pytest', *_]
            ):
                assert command.in_ci, f'{command}: only .ci/run can run it; mark the block'
            case ['pip', 'install', *packages]:
                check_packages(packages)
            case ['python', '-m', module, *arguments]:
                python(command, module, arguments)
            case ['launch/local.sh', *_] | ['launch/tpu_pod.sh', '--dry-run', *_]:
                launch(*words)
            case ['sbatch', *arguments]:
                check_sbatch(arguments)
            case ['docker', 'build', '-f', path, '--build-arg', extra, '-t', _, '.']:
                assert (ROOT / path).is_file()
                check_packages([f'.[{extra.removeprefix("EXTRA=")}]'])
            case ['kubectl', 'apply', '-f', path] | ['sky', 'jobs', 'launch', path]:
                assert (ROOT / path).is_file()
            case ['xprof', path]:
                assert re.fullmatch(r'runs/\w+/profile', path)
                assert (sandbox / 'run' / 'profile' / 'plugins').is_dir()
            case _:
                pytest.fail(f'{command} has no rule: add one to `check`')

    return check


def main_of(module: str) -> Callable[[list[str]], None]:
    found = importlib.import_module(module)
    if hasattr(found, '__path__'):
        found = importlib.import_module(f'{module}.__main__')
    return found.main


def parse(module: str, arguments: list[str]) -> None:
    """Checks flags as the command does, and stops before it does anything else."""

    class ParsedError(Exception):
        pass

    def stop_after(real: Callable) -> Callable:
        def parse(*arguments: object) -> None:
            real(*arguments)
            raise ParsedError

        return parse

    with pytest.MonkeyPatch.context() as patch:
        for name in ('parse', 'parse_with_arguments'):
            patch.setattr(cli, name, stop_after(getattr(cli, name)))
        with pytest.raises(ParsedError):
            main_of(module)([module, *arguments])


VIEWERS = ('xprof', 'tensorboard')


def check_packages(words: list[str]) -> None:
    """Checks the arguments of `pip install`: this project with its extras, or a viewer."""
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    extras = {f'.[{name}]' for name in project['optional-dependencies']}
    assert set(words) <= extras | {'-q', '-e', '.', '-c', 'tests/constraints.txt', *VIEWERS}


def check_sbatch(words: list[str]) -> None:
    """Checks a job's options, which the script must have as well, its file and its flags."""
    place = next(k for k, word in enumerate(words) if not word.startswith('-'))
    text = (ROOT / words[place]).read_text()
    for option in words[:place]:
        assert f'\n#SBATCH {option.partition("=")[0]}=' in text, option
    parse('glr_jax.train', [*words[place + 1 :], '--parallel.coordinator=auto'])


@pytest.mark.parametrize(
    'command',
    [
        pytest.param(command, marks=[pytest.mark.slow] * (SLOW & set(command.words) != set()))
        for command in all_commands(READMES)
    ],
    ids=str,
)
def test_commands_run(command: Command, check: Callable[[Command], None]) -> None:
    check(command)


def test_a_command_without_a_rule_fails(check: Callable[[Command], None]) -> None:
    for words in [('python', '-m', 'glr_jax.config'), ('make', 'all')]:
        with pytest.raises((AssertionError, pytest.fail.Exception), match='no rule'):
            check(Command(READMES[0], 1, words, in_ci=False))


@pytest.mark.parametrize(
    'command',
    [command for command in all_commands([*READMES, *RECORDS]) if command.words[2:3] != ('venv',)],
    ids=str,
)
def test_flags_parse(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    match command.words:
        case ['python', '-m', 'pytest', *arguments] | ['pytest', *arguments]:
            assert all((ROOT / word).exists() for word in arguments if word.startswith('tests/'))
        case ['python', '-m', module, *arguments] if module.startswith('tests.'):
            path = ROOT / module.replace('.', '/')
            code = (path / '__main__.py' if path.is_dir() else path.with_suffix('.py')).read_text()
            assert all(f"'{argument.partition('=')[0]}'" in code for argument in arguments)
        case ['python', '-m', module, *arguments]:
            placeholder = re.compile(r'=[A-Z]$')  # --data.frames=T
            parse(module, [placeholder.sub('=640', argument) for argument in arguments])
        case _:
            assert command.path in READMES, f'{command} has no rule: add one'


SNIPPETS = [
    pytest.param(block.text, id=f'{path.relative_to(ROOT)}:{block.line}')
    for path in READMES
    for block in blocks(path)
    if block.language == 'python'
]


@pytest.mark.parametrize('code', SNIPPETS)
def test_python_snippets_run(code: str, sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sandbox)
    make_folders(sandbox, code)
    exec(compile(code, 'README.md', 'exec'), {})


@pytest.mark.parametrize('path', READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_files_exist(path: Path) -> None:
    for target in re.findall(r'\]\(([^)\s]+)\)', prose(path)):
        if target.startswith('https://'):
            continue
        file, _, anchor = target.partition('#')
        assert (path.parent / file).exists(), target
        assert not anchor or anchor in anchors(path.parent / file), target
    ours = {str(file.relative_to(ROOT)) for part in PARTS for file in (ROOT / part).rglob('*.*')}
    for name in re.findall(r'`([\w./-]+\.(?:py|md|sh|sbatch|yaml|flags|toml))`', prose(path)):
        assert any(f'/{file}'.endswith(f'/{name}') for file in ours), name


@pytest.mark.parametrize('path', READMES[1:4], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_map_has_every_module(path: Path) -> None:
    (tree,) = [block.text for block in blocks(path) if not block.language]
    found, folder = set(), ''
    for indent, name, text in re.findall(r'^( *)(\S+) *(.*)$', tree, re.M):
        folder = folder if indent else ''
        assert (path.parent / folder / name).exists(), name
        assert text, f'{name} is not explained'
        found.add(folder + name)
        folder = name if name.endswith('/') else folder
    modules = {str(file.relative_to(path.parent)) for file in path.parent.rglob('*.py')}
    assert {name for name in found if name.endswith('.py')} == {
        name for name in modules if not name.endswith('__init__.py')
    }


def test_flags_in_the_text_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for module in [*TINY, *ONLY_PARSED]:
        with pytest.raises(SystemExit):
            main_of(module)([module, '--help'])
    known = set(re.findall(r'^  (--[\w.]+)', capsys.readouterr().out, re.M)) | {
        '--dry-run',
        '--help',
    }
    for path in READMES:
        named = {
            flag
            for code in re.findall(r'`(--[^`]*)`', prose(path))
            for flag in [re.split(r'[ =]', code)[0]]
        }
        assert named <= known, path


FLAGFILES = sorted((ROOT / 'experiments').glob('*.flags'))
SCORE = re.compile(r'\d+\.\d+ ± \d+\.\d+|\d+\.\d+(?=(?: %)? on )')


@pytest.mark.parametrize('path', FLAGFILES, ids=lambda path: path.name)
def test_scores_in_a_flagfile_are_in_the_results(path: Path) -> None:
    header = ' '.join(re.findall(r'^# *(.*)$', path.read_text(), re.M))
    results = (ROOT / 'experiments' / 'RESULTS.md').read_text()
    for score in SCORE.findall(header):
        assert re.search(rf'(?<![\d.]){re.escape(score)}(?![\d.])', results), score


def test_the_flagfiles_of_the_paper_have_scores() -> None:
    for name in ('gtzan', 'gtzan_paper', 'fma_paper', 'cnn', 'rnn', 'cnn_rnn', 'fma', 'demo'):
        assert SCORE.search((ROOT / 'experiments' / f'{name}.flags').read_text()), name


def test_no_sentence_is_in_two_readmes() -> None:
    sentences: Counter[str] = Counter()
    for path in READMES:
        lines = [line for line in prose(path).splitlines() if not re.match(r'[|#!<]', line)]
        text = re.sub(r'\s+', ' ', '\n'.join(lines))
        sentences.update({s for s in re.split(r'(?<=[.:]) ', text) if len(s.split()) > 5})
    assert not [sentence for sentence, count in sentences.items() if count > 1]
