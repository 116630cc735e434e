"""Downloads the wheels of trainers whose log writers and training loops the tests call, into .cache/writers.

They are opened as archives and never installed: nothing of them gets into this environment, their requirements stay away, and of
their code only the functions that write logs and the classes that adapters extend are run. A wheel that is there already is not
fetched again.

Exit status: 0 all are there, 3 some cannot be had (the reason is printed); then their tests skip and say so, and fail in CI.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".cache" / "writers"
HOSTS = ("skyrl==0.3.0", "openrlhf==0.11.2")
WHEELS = ("verl==0.9.1", "verl==0.7.1", "tinker-cookbook==0.6.1", "trinity-rft==0.6.0", *HOSTS)  # 6 MB in all
TAGS = {"openrlhf==0.11.2": "cp311-cp311-manylinux1_x86_64"}  # pure Python as well, whatever its name says
CANNOT = 3


def main() -> int:
    """Exit status of the command."""
    missing = [wheel for wheel in WHEELS if not path_of(wheel).exists()]
    failed = [wheel for wheel in missing if not downloaded(wheel)]
    print(f"log writers: {len(WHEELS) - len(failed)} of {len(WHEELS)} wheels in {FOLDER}")
    return CANNOT if failed else 0


def path_of(wheel: str) -> Path:
    """Where the wheel of ``name==version`` lies; all of them are pure Python."""
    name, version = wheel.split("==")
    return FOLDER / f"{name.replace('-', '_')}-{version}-{TAGS.get(wheel, 'py3-none-any')}.whl"


def downloaded(wheel: str) -> bool:
    """Whether pip got the wheel; its words are printed when it did not."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    if wheel in TAGS:  # taken whatever Python this is: only its text is read
        python, abi, platform = TAGS[wheel].split("-")
        command += ["--implementation", "cp", "--python-version", python[2:], "--abi", abi, "--platform", platform]
    done = subprocess.run([*command, "--only-binary=:all:", "--dest", str(FOLDER), wheel], capture_output=True, text=True)
    if done.returncode:
        print(f"{wheel} cannot be downloaded:\n{done.stderr.strip()[-2000:]}", file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
