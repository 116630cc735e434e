"""Puts two releases of verl where the tests of the adapters find them, outside this environment: .cache/verl, .cache/verl-0.7.1.

verl asks for a GPU's world; what its trainer imports is this project's own environment (torch, Ray, transformers, and what vLLM
needs) and the few packages named here. They are installed into a folder without their requirements, and only test processes that
get it as PYTHONPATH see that folder.

Exit status: 0 both are there, 3 some cannot be had (the reason is printed); then the tests skip and say so, and fail in CI.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".cache"
PACKAGES = {
    "verl": (
        "verl==0.9.1",
        "TransferQueue==0.1.11",
        "tensordict==0.10.0",
        "torchdata==0.11.0",
        "codetiming==1.4.0",
        "hydra-core==1.3.8",
        "omegaconf==2.4.0",
        "antlr4-python3-runtime==4.9.3",
        "pyvers==0.2.3",
        "importlib-metadata==10.2.0",
        "zipp==4.1.2",
        "orjson==3.13.0",
        "cloudpickle==3.1.2",
        "msgspec==0.22.0",
        "pyzmq==27.3.0",
        "cachetools==8.0.0",
        "dill==0.4.1",
    ),
    "verl-0.7.1": ("verl==0.7.1",),  # on top of the other folder
}
STRAY = ("tests", "tutorial", "scripts", "recipe", "bin")  # folders of some wheels that would pass for packages
CANNOT = 3


def main() -> int:
    """Exit status of the command."""
    failed = [folder for folder, packages in PACKAGES.items() if not installed(CACHE / folder, packages)]
    print(f"verl: {len(PACKAGES) - len(failed)} of {len(PACKAGES)} releases in {CACHE}")
    return CANNOT if failed else 0


def installed(folder: Path, packages: tuple[str, ...]) -> bool:
    """Whether the folder has these packages, now or from an earlier call; pip's words are printed when it has not."""
    note = folder / "installed.txt"
    if note.exists() and note.read_text().split() == list(packages):
        return True
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    done = subprocess.run([*command, "--target", str(partial), *packages], capture_output=True, text=True)
    if done.returncode:
        print(f"{folder.name} cannot be installed:\n{done.stderr.strip()[-2000:]}", file=sys.stderr)
        return False
    for name in STRAY:
        shutil.rmtree(partial / name, ignore_errors=True)
    (partial / note.name).write_text("\n".join(packages))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return True


if __name__ == "__main__":
    sys.exit(main())
