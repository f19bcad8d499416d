"""The page in a browser without a window: it draws a scan."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi", reason="needs the extra agents")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_the_page_fetches_nothing_from_elsewhere(both):
    _, voice = both()
    page = voice.get("/").body.decode()
    assert "<canvas" in page
    assert not re.search(r"https?://|//cdn|@import|<script src|<link[^>]+stylesheet", page)


@pytest.mark.skipif(
    BROWSER is None, reason="without chromium, the page is not run: scripts and drawing are untested"
)
def test_a_scan_is_drawn_in_a_browser(both, small_index, tmp_path):
    """The answer as it streams is not seen: a browser that only prints its page does not wait for a stream."""
    _, voice = both()
    token = small_index.tokens(small_index.rows())[0]
    drawn = voice.get(f"/v1/scene?token={token}").json()
    address = f"http://127.0.0.1:{voice.port}/?scan={quote(token)}"
    command = [
        *[BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"],
        *["--window-size=1200,800", "--virtual-time-budget=20000"],
    ]
    done = subprocess.run([*command, "--dump-dom", address], capture_output=True, text=True, timeout=120)
    (note,) = re.findall(r'<div id="note"[^>]*>(.*?)</div>', done.stdout, re.DOTALL)
    count = len(base64.b64decode(drawn["points"])) // 4
    assert note == f"{count} points, {len(drawn['objects'])} objects"
    for name in {drawn["names"][c] for c in base64.b64decode(drawn["classes"]) if c < len(drawn["names"])}:
        assert f"</i>{name}</span>" in done.stdout
    picture = tmp_path / "page.png"
    subprocess.run(
        [*command, f"--screenshot={picture}", address], capture_output=True, timeout=120, check=True
    )
    assert picture.stat().st_size > 10_000
