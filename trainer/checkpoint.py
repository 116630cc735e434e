"""Checkpoints that are there whole or not at all.

A checkpoint is a folder ``step-<step>`` that is written under a temporary name, synced to disk, given a manifest with the
SHA-256 of every file as its last file, and then renamed. Readers trust only folders whose manifest agrees, so a crash at any
moment leaves the one before. There is no pointer file that could point at the wrong step. Nothing in it is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curricula.types import CurriculaError
from rollout.journal import sync_path

MANIFEST = "manifest.json"
SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """A valid checkpoint on disk."""

    folder: Path
    facts: dict[str, Any]  # step, log position, fingerprints: whatever was passed to `write`

    @property
    def step(self) -> int:
        return int(self.facts["step"])

    def curriculum_state(self) -> dict[str, NDArray[Any]]:
        return self.arrays("curriculum.npz")

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays of one of its files."""
        with np.load(self.folder / name, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}


def write(
    parent: Path, facts: dict[str, Any], curriculum_state: dict[str, NDArray[Any]], save_learner: Callable[[Path], None], keep: int
) -> Checkpoint:
    """A new checkpoint of ``facts["step"]``; the oldest beyond ``keep`` are removed after it is complete.

    Errors: CurriculaError when the disk is full; checkpoints that were there before are untouched.
    """
    final = parent / f"step-{int(facts['step']):08d}"
    partial = parent / f".partial-{final.name}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_learner(partial)
        np.savez(partial / "curriculum.npz", **curriculum_state)  # type: ignore[arg-type]
        _write_manifest(partial, facts)
        _replace(partial, final)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CurriculaError(
            f"checkpoint {final}: could not be written ({error.strerror or error}); earlier checkpoints are "
            "intact; free some space and "
            "run again with --resume"
        ) from error
    for old in valid_folders(parent)[keep:]:
        shutil.rmtree(old)
    return Checkpoint(final, facts)


def newest(parent: Path) -> Checkpoint | None:
    """The newest checkpoint whose files agree with its manifest; None where there is none."""
    return next((found for folder in valid_folders(parent) if (found := read(folder)) is not None), None)


def read(folder: Path) -> Checkpoint | None:
    """A committed checkpoint; None where a file does not agree with the manifest. Reads every byte of it."""
    manifest = json.loads((folder / MANIFEST).read_text())
    if all(_digest(folder / name) == digest for name, digest in manifest["files"].items()):
        return Checkpoint(folder, manifest["facts"])
    return None


def glance(folder: Path) -> Checkpoint:
    """A committed checkpoint as its manifest says; none of its files is read."""
    return Checkpoint(folder, json.loads((folder / MANIFEST).read_text())["facts"])


def step_of(folder: Path) -> int:
    """The steps that a committed folder's run had done, by its name."""
    return int(folder.name.removeprefix("step-"))


def valid_folders(parent: Path) -> list[Path]:
    """Committed checkpoint folders, newest first (their contents are checked on reading)."""
    return sorted((folder for folder in parent.glob("step-*") if (folder / MANIFEST).is_file()), reverse=True)


def _write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        sync_path(path)
    digests = {str(path.relative_to(folder)): _digest(path) for path in files}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"schema": SCHEMA, "facts": facts, "files": digests}, indent=1))
    sync_path(manifest)
    for directory in {folder, *(path.parent for path in files)}:
        sync_path(directory)


def _replace(partial: Path, final: Path) -> None:
    if final.exists():  # the same step again, after a resume from an older checkpoint
        shutil.rmtree(final)
    os.rename(partial, final)
    sync_path(final.parent)


def _digest(path: Path) -> str:
    if not path.is_file():
        return "missing"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
