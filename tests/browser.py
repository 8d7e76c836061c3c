"""Pages as Chromium shows them; tests that need it skip where it is not installed."""

import html
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or ''
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason='Chromium is not installed')
_FLAGS = (
    *('--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'),
    *('--disable-background-networking', '--disable-component-update', '--disable-sync'),
)


def run(page: Path, *flags: str, dark: bool = False) -> str:
    """Opens a page from disk; returns what Chromium prints."""
    scheme = f'--blink-settings=preferredColorScheme={0 if dark else 1}'
    with tempfile.TemporaryDirectory() as profile:
        command = [CHROMIUM, *_FLAGS, scheme, f'--user-data-dir={profile}']
        command += ['--window-size=1600,3000', *flags, page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def evaluate(page: Path, script: str, *, width: int = 1280, dark: bool = False) -> Any:
    """The value of an expression in JavaScript on a page, without its policy, which forbids it.

    The page is in a frame, since windows cannot be narrower than 500 pixels.
    """
    text = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', '', page.read_text())
    frame = page.with_name('frame.html')
    frame.write_text(
        '<!doctype html><meta charset="utf-8"><body><script>const show = (window) => {'
        f'const found = JSON.stringify(window.eval({json.dumps(script)}));'
        'document.body.replaceChildren(found); }</script>'
        f'<iframe width="{width}" height="2000" frameborder="0" srcdoc="{html.escape(text)}" '
        'onload="show(this.contentWindow)"></iframe>'
    )
    found = re.search('<body>(.*?)</body>', run(frame, '--dump-dom', dark=dark), re.DOTALL)
    assert found is not None
    return json.loads(html.unescape(found[1]))
