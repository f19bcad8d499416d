"""The page in a browser without a window: it draws a scan, streams an answer, and shows which tiles were kept."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi", reason="needs the extra agents")
from .browser import BROWSER, Browser

# what an observer notes of the answer as it grows
WATCH = """
  window.seen = [];
  new MutationObserver(() => seen.push(at("answer").textContent)).observe(at("answer"), {childList: true});
"""
# of each tile the share of its pixels that differ with and without tokens
CHANGED = """(() => {
  const canvas = at("bev"), pen = canvas.getContext("2d"), box = canvas.getBoundingClientRect();
  const scale = canvas.width / box.width, p = pixelsPerMetre * scale, side = grid.tile * grid.cell_m * p;
  const pixels = () => { draw(); return pen.getImageData(0, 0, canvas.width, canvas.height).data; };
  at("tokens").checked = false;
  const without = pixels();
  at("tokens").checked = true;
  const shown = pixels();
  const front = grid.ahead_m + grid.rows * grid.cell_m / 2, left = grid.columns * grid.cell_m / 2;
  const across = grid.columns / grid.tile, shares = [];
  for (let i = 0; i < across * grid.rows / grid.tile; i++) {
    const x = canvas.width / 2 - left * p + side * (i % across);
    const y = canvas.height / 2 - front * p + side * Math.floor(i / across);
    let changed = 0, count = 0;
    for (let r = Math.ceil(y) + 2; r < y + side - 2; r++)
      for (let c = Math.ceil(x) + 2; c < x + side - 2; c++, count++)
        changed += [0, 1, 2, 3].some((k, _, __, at = 4 * (r * canvas.width + c) + k) => shown[at] !== without[at]);
    shares.push(changed / count);
  }
  return shares;
})()"""


def test_the_page_fetches_nothing_from_elsewhere(both):
    _, voice = both()
    page = voice.get("/").body.decode()
    assert "<canvas" in page
    assert not re.search(r"https?://|//cdn|@import|<script src|<link[^>]+stylesheet", page)


@pytest.mark.skipif(
    BROWSER is None,
    reason="without chromium, the page is not run: drawing, kept tiles and the answer as it streams are untested",
)
def test_a_scan_is_drawn_asked_and_its_kept_tiles_are_shown(both, routed, small_index, tmp_path):
    _, voice = both(model=routed, share=0.5)
    token = small_index.tokens(small_index.rows())[0]
    drawn = voice.get(f"/v1/scene?token={token}").json()
    asked = {"type": "lidar_scene", "lidar_scene": {"token": token}}
    answer = voice.chat(asked, "How many cars are ahead?").json()
    with Browser(tmp_path / "browser") as page:
        page.go(f"http://127.0.0.1:{voice.port}/?scan={quote(token)}")
        count = len(base64.b64decode(drawn["points"])) // 4
        page.until(f"document.getElementById('note')?.textContent.startsWith('{count} points')")
        assert page.value("at('note').textContent") == f"{count} points, {len(drawn['objects'])} objects"
        named = {
            drawn["names"][c].replace("_", " ")
            for c in base64.b64decode(drawn["classes"])
            if c < len(drawn["names"])
        }
        assert named <= set(page.value("[...at('legend').children].map((each) => each.textContent)"))
        assert page.value(
            "performance.getEntriesByType('resource').every((r) => r.name.startsWith(location.origin))"
        )
        page.picture(tmp_path / "before.png")

        page.value(WATCH)
        page.value("at('question').value = 'How many cars are ahead?'; at('form').requestSubmit()")
        page.until("/LiDAR tokens/.test(at('note').textContent)")
        said = answer["choices"][0]["message"]["content"]
        assert page.value("at('answer').textContent") == said
        seen = [text for text in page.value("seen") if text]
        assert len(set(seen)) > 2  # it came in pieces, each longer than the one before
        assert all(said.startswith(text) for text in seen)
        assert seen == sorted(seen, key=len)
        (kept,) = answer["tiles_kept"]
        assert f"{answer['usage']['lidar_tokens']} LiDAR tokens ({sum(kept)} of 8 tiles kept)" in page.value(
            "at('note').textContent"
        )
        changed = page.value(CHANGED)
        assert 0 < sum(kept) < 8
        for is_kept, share in zip(kept, changed, strict=True):
            assert share > 0.8 if is_kept else share < 0.5, (kept, changed)
        page.picture(tmp_path / "after.png")
        assert (tmp_path / "after.png").read_bytes() != (tmp_path / "before.png").read_bytes()


# scans that are asked for are held until they are let go, each by its number
HOLD = """
  held = []; arrived = 0;
  const plain = fetch, came = () => setTimeout(() => arrived++, 200);  // what waits for it has run by then
  window.fetch = (path, options) => path.startsWith("/v1/scene?")
    ? new Promise((go) => held.push(() => plain(path, options).then(go).then(came))) : plain(path, options);
  choose = (i) => { at("scan").selectedIndex = i; at("scan").dispatchEvent(new Event("change")); };
"""


@pytest.mark.skipif(
    BROWSER is None, reason="without chromium, the page is not run: what arrives late is untested"
)
def test_what_arrives_late_takes_no_others_place(both, tmp_path):
    """A scan that came after a later one was drawn under its name, and wiped its answer away."""
    _, voice = both()
    with Browser(tmp_path / "browser") as page:
        page.go(f"http://127.0.0.1:{voice.port}/")
        page.until("/points/.test(document.getElementById('note')?.textContent)")
        page.value(HOLD)
        page.value("choose(1); choose(2)")
        for number in (1, 0):
            page.value(f"void held[{number}]()")
            page.until(f"arrived === {2 - number}")
            assert page.value("scene.token === at('scan').value")
        page.value("choose(3)")
        page.value("at('question').value = 'How many cars are ahead?'; at('form').requestSubmit()")
        assert page.value("at('scan').disabled") is True  # an answer stays with its scan
        page.until("/LiDAR tokens/.test(at('note').textContent)")
        said = page.value("at('answer').textContent")
        assert said
        page.value("void held[2]()")
        page.until("scene?.token === at('scan').value")
        assert page.value("at('answer').textContent") == said
        assert page.value("at('scan').selectedIndex") == 3
        assert page.value("at('scan').disabled") is False
