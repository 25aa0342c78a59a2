"""Fills the code blocks under `<!-- file: PATH -->` in the docs: `python docs/make_quotes.py`."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_QUOTE = re.compile(r"(<!-- file: (\S+) -->\n```python\n).*?(```)", re.DOTALL)


def filled(text: str) -> str:
    """The page with every quoted file as it is now."""

    def quote(match: re.Match[str]) -> str:
        return match[1] + (ROOT / match[2]).read_text(encoding="utf-8") + match[3]

    return _QUOTE.sub(quote, text)


if __name__ == "__main__":
    for page in sorted(ROOT.glob("docs/**/*.md")):
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            page.write_text(filled(text), encoding="utf-8")
            print(f"{page.relative_to(ROOT)}: quotes renewed")
