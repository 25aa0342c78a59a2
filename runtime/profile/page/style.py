"""Colours and CSS of the page: light and dark, told apart by colour-blind eyes too.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/); neighbours in a bar are
also parted by a gap, named in the legend, and told as numbers in the table under each figure.
"""

from __future__ import annotations

COLOURS = {
    "read": "#999999",
    "guide": "#e69f00",
    "vision": "#0072b2",
    "select": "#009e73",
    "prefill": "#d55e00",
    "decode": "#56b4e9",
    "image": "#0072b2",
    "text": "#f0e442",
    "words": "#999999",
    "memory": "#cc79a7",
    "accuracy": "#009e73",
}
"""What is drawn -> colour."""

CSS = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f24; --faint: #5d6670;
  --line: #d9dee3; --card: #f6f8fa; --warn: #fff4d6; --edge: #c98a00; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e8ecf0; --faint: #a3adb8;
  --line: #333b44; --card: #1c2229; --warn: #3a2f12; --edge: #e6a817; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .3rem; }
p { margin: .3rem 0 .8rem; max-width: 46rem; }
.about, figcaption { color: var(--faint); }
.verdict { font-size: 1.15rem; background: var(--card); border-left: .3rem solid #0072b2;
  padding: .8rem 1rem; margin: 1.2rem 0 .6rem; border-radius: .2rem; max-width: none; }
.warning { background: var(--warn); border-left: .3rem solid var(--edge); padding: .6rem 1rem;
  margin: .6rem 0; border-radius: .2rem; max-width: none; }
figure { margin: 0; }
.picture { overflow-x: auto; }
svg { display: block; width: 100%; min-width: 38rem; height: auto; font: inherit; }
svg text { fill: var(--ink); font-size: 14px; }
svg .faint { fill: var(--faint); font-size: 12.5px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .mark { stroke: var(--ink); stroke-width: 2; stroke-dasharray: 5 4; }
svg .strong { font-weight: 600; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0;
  margin: .6rem 0 .2rem; font-size: .9rem; }
.legend i { display: inline-block; width: .85rem; height: .85rem; border-radius: .15rem;
  margin-right: .4rem; vertical-align: -.08rem; }
.legend i.dash { height: 0; border-top: 2px dashed var(--ink); width: 1.3rem; border-radius: 0;
  vertical-align: .25rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .6rem 0 .4rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
thead th { white-space: normal; max-width: 9rem; }
th:first-child, td:first-child { text-align: left; }
td.words, th.words { text-align: left; white-space: normal; }
thead th { color: var(--faint); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 400; padding-right: 1.4rem; }
summary { cursor: pointer; color: var(--faint); margin-top: .8rem; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .92em; }
"""
