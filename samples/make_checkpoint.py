"""Write a checkpoint of random weights in Hugging Face format, of any family and size:

    python -m vtp.samples.make_checkpoint llava --size 7b --dtype float16 --shards 3 --out DIR
    python -m vtp.samples.make_checkpoint qwen2_vl --size tiny --out DIR
    python -m vtp.samples.make_checkpoint llava --size 7b --layout hub --small --out DIR
    python -m vtp.samples.make_checkpoint --list

The checkpoint is for tests and benchmarks: it has the published dimensions, random weights as
transformers initializes them, and the tokenizer of the sample model with an id for every row. Only
one block of random numbers is in memory at a time: a 7B model takes as long as writing its bytes.

With ``--layout hub``, names of tensors, shards, configuration, tokenizer and templates are those of
the repository that published the model (``vtp.samples.hub``), and so are the type and the number of
shards by default. ``--small`` uses small dimensions in the same layout.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from .checkpoints.families import FAMILIES, Published
from .checkpoints.folder import ENDS, token_ids, write_processors
from .checkpoints.random_tensors import SPREAD, TYPES, RandomTensors
from .checkpoints.sizes import SIZES, Size
from .hub.repository import Repository
from .hub.table import REPOSITORIES
from .hub.write import stored_shapes as hub_shapes
from .hub.write import write_files

Shapes = dict[str, tuple[int, ...]]
LIBRARY, HUB = "library", "hub"
"""Layouts."""


def empty_model(published: Published, size: Size, dtype: str) -> Any:
    """The transformers model without memory: every tensor on the meta device."""
    import torch
    import transformers
    from transformers.utils import logging

    logging.set_verbosity_error()
    ids = token_ids(published, size)
    ends = {name: ids[token] for name, token in ENDS.items()}
    model_class = getattr(transformers, published.model)
    arguments = published.config(size, ids)
    arguments["text_config"] = {**arguments["text_config"], **ends}
    config = model_class.config_class(**arguments)
    config.dtype = dtype
    config.architectures = [published.model]
    with torch.device("meta"):
        return model_class(config).to(getattr(torch, dtype)).eval()


def stored_shapes(model: Any) -> Shapes:
    """Checkpoint key -> shape, exactly as ``save_pretrained`` would write the model."""
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    state = remove_tied_weights_from_state_dict(model.state_dict(), model)
    state = revert_weight_conversion(model, state)
    return {name: tuple(tensor.shape) for name, tensor in sorted(state.items())}


def split(shapes: Shapes, shards: int) -> list[Shapes]:
    """Cut into ``shards`` runs of about equal size, none empty."""
    total, seen = sum(map(math.prod, shapes.values())), 0
    parts: list[Shapes] = [{} for _ in range(shards)]
    for number, (name, shape) in enumerate(shapes.items()):
        by_size = seen * shards // total
        left = len(shapes) - number
        # Never so late that shards stay without a tensor, never so early that one is left out.
        last = max((n for n, part in enumerate(parts) if part), default=-1)
        at = min(max(by_size, shards - left, last), last + 1)
        parts[at][name] = shape
        seen += math.prod(shape)
    return parts


def make_checkpoint(
    family: str,
    size: str,
    out: Path,
    dtype: str | None = None,
    shards: int | None = None,
    seed: int = 0,
    *,
    layout: str = LIBRARY,
    small: bool = False,
    spread: float = SPREAD,
) -> None:
    """Write the folder; it appears complete or not at all.

    Args:
        family: key of ``FAMILIES``.
        size: key of ``SIZES[family]``.
        out: the folder to make; it must not exist, or be empty.
        dtype: type of the weights, a key of ``TYPES``; None: float16, or that of the hub.
        shards: number of weight files; None: one, or as many as on the hub.
        seed: of the random numbers.
        layout: ``library``, as transformers writes today, or ``hub``, as it was published.
        small: with ``hub``: small dimensions.
        spread: standard deviation of the matrices.

    Raises:
        FileExistsError: something is in ``out``.
        ValueError: more shards than tensors, or a size of which no repository is known.
        OSError: not enough room, or ``out`` cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{str(out)!r} already exists: choose another --out")
    repository = _repository(family, size) if layout == HUB else None
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        work.chmod(0o755)
        if repository is not None:
            write_files(repository, work, small)
            shapes = hub_shapes(repository, work)
            dtype, shards = dtype or repository.dtype, shards or repository.shards
        else:
            shapes = _write_as_library(work, family, size, dtype or "float16")
            dtype, shards = dtype or "float16", 1 if shards is None else shards
        if not 1 <= shards <= len(shapes):
            raise ValueError(f"shards {shards} is not in 1..{len(shapes)}, the number of tensors")
        tensors = RandomTensors(dtype, seed, spread)
        _check_room(out.parent, sum(map(math.prod, shapes.values())) * tensors.itemsize)
        _write_weights(work, split(shapes, shards), tensors)
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _repository(family: str, size: str) -> Repository:
    for repository in REPOSITORIES.values():
        if (repository.family, repository.size) == (family, size):
            return repository
    known = [f"{r.family} {r.size}" for r in REPOSITORIES.values()]
    raise ValueError(f"no repository of {family} {size} is known; known: {', '.join(known)}")


def _write_as_library(folder: Path, family: str, size: str, dtype: str) -> Shapes:
    published, dimensions = FAMILIES[family], SIZES[family][size]
    model = empty_model(published, dimensions, dtype)
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    write_processors(folder, published, dimensions)
    return stored_shapes(model)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{needed / 1e9:.2f} GB are needed in {folder}, but {free / 1e9:.2f} GB are free"
        )


def _write_weights(folder: Path, parts: list[Shapes], tensors: RandomTensors) -> None:
    if len(parts) == 1:
        tensors.write_shard(folder / "model.safetensors", parts[0])
        return
    where: dict[str, str] = {}
    total = 0
    for number, part in enumerate(parts, 1):
        name = f"model-{number:05}-of-{len(parts):05}.safetensors"
        total += tensors.write_shard(folder / name, part)
        where |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    text = json.dumps(index, indent=2) + "\n"
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def _table() -> str:
    return "\n".join(f"{family}: {', '.join(sizes)}" for family, sizes in SIZES.items())


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vtp.samples.make_checkpoint",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("family", nargs="?", choices=list(FAMILIES), help="family of the model")
    parser.add_argument("--size", default="tiny", help="size, such as 7b; --list shows all")
    parser.add_argument("--out", type=Path, help="output folder")
    parser.add_argument(
        "--dtype",
        choices=list(TYPES),
        help="type of the weights (default: float16, or that of the hub)",
    )
    parser.add_argument(
        "--shards", type=int, help="number of weight files (default: 1, or that of the hub)"
    )
    parser.add_argument(
        "--layout",
        choices=[LIBRARY, HUB],
        default=LIBRARY,
        help="as transformers writes it now, or as the repository was published",
    )
    parser.add_argument("--small", action="store_true", help="with --layout hub: small dimensions")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random numbers")
    parser.add_argument("--list", action="store_true", help="show all families and sizes")
    given = parser.parse_args(arguments)
    if given.list:
        print(_table())
        return 0
    if given.family is None or given.out is None:
        parser.error("give a family and --out, or --list")
    if given.size not in SIZES[given.family]:
        parser.error(
            f"size {given.size!r} of {given.family}: one of {', '.join(SIZES[given.family])}"
        )
    if given.small and given.layout != HUB:
        parser.error("--small needs --layout hub; otherwise use --size tiny")
    try:
        make_checkpoint(
            given.family,
            given.size,
            given.out,
            given.dtype,
            given.shards,
            given.seed,
            layout=given.layout,
            small=given.small,
        )
    except (OSError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
