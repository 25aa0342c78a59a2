"""The picture: marks where their figures belong, whatever the names and figures are."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from vtp.calibration.picture import Mark, draw

SVG = "{http://www.w3.org/2000/svg}"


def mark(label: str, ms: float, percent: float, chosen: bool = False, series: str = "a") -> Mark:
    """A mark, filled."""
    return Mark(series=series, label=label, ms=ms, percent=percent, best=True, chosen=chosen)


def circles(text: str) -> dict[str, tuple[float, float]]:
    """Place of each mark by its title."""
    found = {}
    for circle in ElementTree.fromstring(text).iter(f"{SVG}circle"):
        title = circle.find(f"{SVG}title")
        if title is not None and title.text:
            found[title.text] = (float(circle.attrib["cx"]), float(circle.attrib["cy"]))
    return found


def test_faster_is_further_left_and_better_is_higher() -> None:
    text = draw([mark("1", 30, 90), mark("2", 20, 80), mark("3", 10, 80)], "accuracy", 85)
    by_title = sorted(circles(text).items())
    (first, second, third) = (place for _, place in by_title)
    assert third[0] < second[0] < first[0]
    assert first[1] < second[1] == third[1]
    assert first[0] - second[0] == pytest.approx(second[0] - third[0], abs=0.2)


def test_a_name_may_hold_anything() -> None:
    text = draw([mark("1.0", 1, 100, series='<a> & "b"')], "accuracy & more", None)
    (title,) = circles(text)
    assert title == '<a> & "b", keep 1.0: 100.00 %, 1.00 ms'


@pytest.mark.parametrize("percent", [0.0, 50.0, 100.0])
@pytest.mark.parametrize("ms", [0.0, 0.013, 5e4])
def test_figures_may_all_be_one(percent: float, ms: float) -> None:
    places = circles(draw([mark("1", ms, percent), mark("2", ms, percent)], "accuracy", percent))
    assert len(places) == 2
    assert all(0 <= x <= 720 and 0 <= y <= 440 for x, y in places.values())


def test_labels_do_not_lie_on_each_other() -> None:
    """Twenty marks in one place: each has its title, few a label, the chosen one has."""
    marks = [mark(f"0.{n:03}", 10 + n / 1e3, 90, chosen=n == 9) for n in range(20)]
    text = draw([*marks, mark("1.0", 100, 95)], "accuracy", None)
    labels = [e.text for e in ElementTree.fromstring(text).iter(f"{SVG}text")]
    assert len(circles(text)) == 21
    assert {"0.009", "1.0"} <= set(labels)
    assert sum((label or "").startswith("0.0") for label in labels) <= 3
