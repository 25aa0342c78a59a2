"""Compile the CUDA kernel of ``vtp::TopKTokens`` ahead of time, into ``kernels/``.

    python -m vtp.trt_plugins.compile_kernels

Needs Triton, no GPU. The same Triton gives the same bytes.

Triton makes one PTX of each variant, for the oldest GPU of the list. The assemblers that come with
Triton make the machine code of every GPU from it, so that all run the same program.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from .kernel import ARGUMENTS, WARPS, WORD_BITS, block_w, kernel, source_sha256
from .launch import INDEX, KERNELS, SCHEMA, Binary

PTX_ARCH = 80
"""Oldest GPU, A100's; it and every later one can compile this PTX when it is loaded."""

PTX_VERSION = 84
"""PTX ISA 8.4: the driver of JetPack 6 (CUDA 12.6) reads up to 8.5."""

ASSEMBLERS = {
    87: "ptxas",  # Jetson Orin
    89: "ptxas",  # RTX 40
    90: "ptxas",  # H100, H200
    110: "ptxas-blackwell",  # Jetson Thor
    120: "ptxas",  # RTX 50
}
"""Assembler by GPU. That of CUDA 12 where it knows the GPU: drivers of CUDA 12 refuse the file
format of CUDA 13's, drivers of CUDA 13 read both."""


def make_ptx(block: int, word_bits: int) -> tuple[str, Binary]:
    """Triton's PTX of one variant, and its entry of the index.

    Raises:
        RuntimeError: Triton's PTX is not as expected.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    words = f"*i{word_bits}"
    types = (words, "*fp32", "i32", "i32", "i32", "i32", words, "*i64")
    signature = dict(zip(ARGUMENTS, types, strict=True))
    signature |= {"BLOCK_N": "constexpr", "BLOCK_W": "constexpr"}
    source = ASTSource(kernel(), signature, {"BLOCK_N": block, "BLOCK_W": block_w(block)})
    options = {
        "num_warps": WARPS[block],
        "ptx_version": PTX_VERSION,
        "enable_fp_fusion": False,  # no float arithmetic; Triton 3.9 warns where it is left out
    }
    knobs = triton.knobs
    with tempfile.TemporaryDirectory() as cache, knobs.cache.scope(), knobs.compilation.scope():
        knobs.cache.dir = cache
        knobs.compilation.disable_line_info = True  # would hold paths of this machine
        compiled = triton.compile(source, GPUTarget("cuda", PTX_ARCH, 32), options)
    metadata = compiled.metadata
    if metadata.global_scratch_size or metadata.profile_scratch_size:
        raise RuntimeError("the kernel needs scratch memory, which nobody would allocate")
    text, hidden = without_unused_parameters(compiled.asm["ptx"])
    return text, Binary(
        file=f"topk_tokens_{block}_w{word_bits}_sm{PTX_ARCH}.ptx.xz",
        kind="ptx",
        arch=PTX_ARCH,
        block=block,
        word_bits=word_bits,
        num_warps=WARPS[block],
        shared_bytes=metadata.shared,
        function=metadata.name,
        hidden_parameters=hidden,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
    )


def without_unused_parameters(ptx: str) -> tuple[str, int]:
    """PTX without the parameters that Triton appends and the kernel does not read.

    Those (scratch memory, of which there is none) are unknown to TensorRT, which passes inputs,
    integers and outputs only.

    Returns:
        The PTX, and how many appended parameters remain because they are read.
    """
    head, begin, rest = ptx.partition("(\n")
    listed, end, body = rest.partition("\n)")
    parameters = listed.split(",\n")
    while len(parameters) > len(ARGUMENTS):
        name = parameters[-1].split()[-1]
        if re.search(rf"\b{name}\b", body):
            break
        parameters.pop()
    return head + begin + ",\n".join(parameters) + end + body, len(parameters) - len(ARGUMENTS)


def assemble(ptx: str, arch: int) -> bytes:
    """Machine code for one GPU, an ELF file (cubin).

    Raises:
        RuntimeError: The assembler refuses the PTX.
    """
    import triton

    # Not Triton's setting: an environment variable may name another assembler there.
    folder = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary, "kernel.ptx"), Path(temporary, "kernel.cubin")
        source.write_text(ptx, encoding="utf-8")
        # The option is Triton's own, against an error of the assembler of CUDA 13.
        options = [f"--gpu-name=sm_{arch}", "--regAllocOptLevel=2", "-o", str(target)]
        command = [str(folder / ASSEMBLERS[arch]), *options, str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{ASSEMBLERS[arch]} refuses the PTX for sm_{arch}: {done.stderr}")
        return target.read_bytes()


def compile_all() -> Iterator[tuple[Binary, bytes]]:
    """Every variant for every GPU, the PTX of a variant first."""
    for block in WARPS:
        for word_bits in WORD_BITS:
            ptx, binary = make_ptx(block, word_bits)
            yield binary, ptx.encode()
            for arch in ASSEMBLERS:
                cubin = assemble(ptx, arch)
                file = f"topk_tokens_{block}_w{word_bits}_sm{arch}.cubin.xz"
                sha256 = hashlib.sha256(cubin).hexdigest()
                yield replace(binary, file=file, kind="cubin", arch=arch, sha256=sha256), cubin


def write(folder: Path) -> None:
    """Compile all and replace the contents of the folder."""
    import triton

    folder.mkdir(parents=True, exist_ok=True)
    binaries = []
    for binary, data in compile_all():
        (folder / binary.file).write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
        binaries.append(asdict(binary))
    for stale in {path.name for path in folder.glob("*.xz")} - {b["file"] for b in binaries}:
        (folder / stale).unlink()
    index = {
        "schema": SCHEMA,
        "source_sha256": source_sha256(),
        "triton": triton.__version__,
        "binaries": binaries,
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Compile the CUDA kernel of vtp::TopKTokens.")
    parser.add_argument("--out", type=Path, default=KERNELS, help="folder (default: the package's)")
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()
