"""The page: one file, in a browser, without network, in light and dark."""

from __future__ import annotations

import copy
import html.parser
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vtp.runtime.profile.page import page
from vtp.runtime.profile.page.bars import Part, Row, bars, nice_step

from .browser import Browser, missing

_VOID = {"meta", "link"}


class Nesting(html.parser.HTMLParser):
    """Checks that every element is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(text: str) -> Nesting:
    found = Nesting()
    found.feed(text)
    assert found.open == []
    return found


def test_the_page_is_whole_and_refers_to_nothing(found: dict[str, Any]) -> None:
    text = page(found)
    tags = parsed(text).seen
    assert not [tag for tag, _ in tags if tag in ("script", "img", "iframe", "object")]
    links = [a.get("href") or a.get("src") for _, a in tags if "href" in a or "src" in a]
    assert links == ["data:,"]
    assert "url(" not in text
    assert "default-src 'none'" in text


def test_figures_are_named_and_told_as_tables(found: dict[str, Any]) -> None:
    text = page(found)
    tags = parsed(text).seen
    pictures = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(pictures) == 5  # first token, answer, KV, stages, accuracy
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for picture in pictures:
        assert picture["role"] == "img"
        assert set(str(picture["aria-labelledby"]).split()) <= set(ids)
    assert len(re.findall("<table>", text)) >= len(pictures)
    for row in found["keeps"]:
        assert f"{row['kv_bytes']:,}" in text
    assert "98.7 %" in text


def test_names_from_outside_are_text(found: dict[str, Any]) -> None:
    sly = copy.deepcopy(found)
    sly["bundle"]["model"] = '<script>alert("x")</script>'
    sly["warnings"] = ["<b>&"]
    text = page(sly)
    assert "<script" not in text
    assert "&lt;b&gt;&amp;." in text


def test_without_accuracy_there_is_no_such_figure(found: dict[str, Any]) -> None:
    unknown = copy.deepcopy(found)
    for row in unknown["keeps"]:
        row["accuracy"] = None
    assert "Accuracy" not in page(unknown)


def test_bars_are_as_long_as_their_values() -> None:
    parts = (
        Part(name="a", value=30.0, colour="#111111"),
        Part(name="b", value=10.0, colour="#222"),
    )
    rows = [
        Row(label="one", note="", parts=parts, total="40"),
        Row(label="two", note="", parts=parts[1:], total="10"),
    ]
    text = bars("n", "t", "d", rows, "ms", ("floor", 20.0))
    lengths = [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)"', text)]
    gap = 1.5
    assert (lengths[0] + gap) / (lengths[1] + gap) == pytest.approx(3.0, rel=0.02)
    assert lengths[1] == pytest.approx(lengths[2], abs=0.2)
    starts = [float(x) for x in re.findall(r'<rect x="([\d.]+)"', text)]
    mark = float(re.findall(r'class="mark" x1="([\d.]+)"', text)[0])
    assert mark - starts[0] == pytest.approx(2 * (lengths[1] + gap), rel=0.02)


@pytest.mark.parametrize(
    ("end", "step"), [(1.0, 0.2), (22.5, 5.0), (41.0, 10.0), (600.0, 200.0), (0.033, 0.01)]
)
def test_ticks_are_round(end: float, step: float) -> None:
    assert nice_step(end) == pytest.approx(step)


@pytest.fixture(params=[False, True], ids=["light", "dark"])
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """Headless Chromium."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    opened = Browser(dark=request.param)
    yield opened
    opened.close()


@pytest.mark.slow
def test_a_browser_shows_it(browser: Browser, found: dict[str, Any], tmp_path: Path) -> None:
    target = tmp_path / "profile.html"
    target.write_text(page(found), encoding="utf-8")
    browser.open(target)
    assert browser.console() == []
    assert set(browser.requests()) <= {target.as_uri(), "data:,"}
    assert browser.ask("document.querySelectorAll('svg').length") == 5
    # Nothing is cut off: neither the page, nor a text in a figure, nor one on another.
    assert browser.ask("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert browser.ask(_OUTSIDE) == []
    assert browser.ask(_OVERLAPS) == []
    paper = browser.ask("getComputedStyle(document.body).backgroundColor")
    dark = browser.ask("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (paper == "rgb(255, 255, 255)") == (not dark)
    assert browser.screenshot().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_browser_would_tell_of_an_outside_request(browser: Browser, tmp_path: Path) -> None:
    """What the test above looks for can be found."""
    target = tmp_path / "leaky.html"
    target.write_text('<img src="http://127.0.0.1:9/x.png"><script>console.error("e")</script>')
    browser.open(target)
    assert "http://127.0.0.1:9/x.png" in browser.requests()
    assert any("e" in message for message in browser.console())


_OUTSIDE = """[...document.querySelectorAll('svg')].flatMap(svg => {
  const [, , width, height] = svg.getAttribute('viewBox').split(' ').map(Number);
  return [...svg.querySelectorAll('text')].filter(text => {
    const box = text.getBBox();
    return box.x < 0 || box.y < 0 || box.x + box.width > width || box.y + box.height > height;
  }).map(text => text.textContent);
})"""
_OVERLAPS = """[...document.querySelectorAll('svg')].flatMap(svg => {
  const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBBox()]);
  return texts.flatMap(([a, p], i) => texts.slice(i + 1)
    .filter(([b, q]) => p.x + p.width > q.x + 1 && q.x + q.width > p.x + 1
      && p.y + p.height > q.y + 6 && q.y + q.height > p.y + 6)
    .map(([b]) => a + ' / ' + b));
})"""
