"""Stop before pip downloads several gigabytes of CUDA packages for a demo on the CPU.

Usage: check_torch.py [options for pip install]. Asks pip what it would install for torch.
"""

from __future__ import annotations

import json
import subprocess
import sys

_ADVICE = """\
pip would install the CUDA build of torch with {count} NVIDIA packages (several gigabytes).
The demo and the tests need the CPU build only. Either
  * name an index that has it, as PyTorch's install page lists under "CPU":
        make demo TORCH_INDEX=<address of the index>
  * or install torch yourself into {prefix} first, in whichever build you want."""


def main() -> None:
    """Exit with advice if NVIDIA packages are on pip's list."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-"]
    done = subprocess.run(
        [*command, *sys.argv[1:], "torch"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(done.returncode)
    wanted = [item["metadata"]["name"] for item in json.loads(done.stdout)["install"]]
    nvidia = [name for name in wanted if name.startswith(("nvidia-", "cuda-"))]
    if nvidia:
        sys.exit(_ADVICE.format(count=len(nvidia), prefix=sys.prefix))


if __name__ == "__main__":
    main()
