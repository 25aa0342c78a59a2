"""Questions about drawn scenes as files, to try `vtp calibrate` with.

`python -m vtp.samples.write_questions --out DIR --count 300` writes `DIR/questions.jsonl`, one
object per line with image, prompt, answer and kind, and the pictures to `DIR/images`. It needs
only numpy and Pillow.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .scenes import SHORT_KINDS, evaluation_set

FILE_NAME = "questions.jsonl"


def write_questions(
    out: Path, count: int = 300, seed: int = 30_000, *, answers: bool = True, long: bool = False
) -> Path:
    """Write `count` questions and return the data file.

    Another `seed` gives other scenes. `answers` says whether the right answers are written too,
    `long` whether some questions ask for a description.
    """
    (out / "images").mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    # One kind in seven is long.
    for sample in evaluation_set(count if long else count * 7 // 6 + 7, seed):
        if (sample.kind not in SHORT_KINDS and not long) or len(lines) == count:
            continue
        name = f"images/{len(lines):05}.png"
        sample.image.save(out / name)
        entry = {"image": name, "prompt": sample.question, "kind": sample.kind}
        lines.append(json.dumps(entry | ({"answer": sample.answer} if answers else {})))
    path = out / FILE_NAME
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vtp.samples.write_questions", description=__doc__
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    parser.add_argument(
        "--count", type=int, default=300, help="number of questions; kinds alternate"
    )
    parser.add_argument("--seed", type=int, default=30_000, help="seed of the scenes")
    parser.add_argument("--no-answers", action="store_true", help="write no answers")
    parser.add_argument("--long", action="store_true", help="also ask for descriptions")
    options = parser.parse_args(arguments)
    path = write_questions(
        options.out,
        options.count,
        options.seed,
        answers=not options.no_answers,
        long=options.long,
    )
    print(path)


if __name__ == "__main__":
    main()
