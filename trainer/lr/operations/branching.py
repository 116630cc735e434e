"""A branch: a new run that goes on from a checkpoint of another one, which stays as it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from curricula.types import CurriculaError
from rollout.compacted import Begin, begin_of, check_parts, lines_of, rest_of, sealed
from rollout.journal import sync_path
from rollout.log import ROLLOUTS, TEXTS, LogPosition, last_commit
from trainer.checkpoint import Checkpoint
from trainer.lr.operations.recording import Recorded, decay_of, utc
from trainer.lr.operations.standing import standing
from trainer.operations import Branch, append_operations, course_of
from trainer.resume import RECIPE
from trainer.run_folder import checkpoint_after, recipe_of


def branch(trunk: Path, step: int, folder: Path, length: float, shape: str = "one_minus_sqrt", floor: float = 0.0) -> Recorded:
    """A new run folder: the trunk's recipe, its log up to the checkpoint of this step, the checkpoint, and a decay from there.

    The trunk is only read, so it may be running. The folder is there whole or not at all. Files of the checkpoint are hard links
    where the file system allows it: nothing ever writes into a checkpoint.

    Errors: CurriculaError when the folder is there, the trunk has no intact checkpoint of that step, or cannot decay there.
    """
    if folder.exists():
        raise CurriculaError(f"{folder}: it is there already; choose another --out for the branch")
    start = checkpoint_after(trunk, step)
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        recorded = _written(trunk, start, partial, folder, (length, shape, floor))
        os.rename(partial, folder)
    except (FileNotFoundError, shutil.Error) as error:
        raise CurriculaError(
            f"{trunk}: a file went away while it was copied ({error}); a running trunk keeps run.keep_checkpoints checkpoints, "
            "choose a newer step"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync_path(folder.parent)
    return recorded


def _written(trunk: Path, start: Checkpoint, partial: Path, folder: Path, decay: tuple[float, str, float]) -> Recorded:
    """The branch under its temporary name."""
    recipe = recipe_of(trunk)
    position = LogPosition(*(int(n) for n in start.facts["log_position"]))
    _copy_log(trunk / "log", partial / "log", position)
    shutil.copytree(start.folder, partial / "checkpoints" / start.folder.name, copy_function=_linked)
    own = replace(recipe, run=replace(recipe.run, folder=str(folder)))
    (partial / RECIPE).write_text(own.to_yaml())
    behind = course_of(recipe, trunk, start.facts).applied
    run, _ = last_commit(partial / "log")
    origin = Branch(start.step, str(trunk.resolve()), run, recipe.fingerprint, utc())
    append_operations(partial, [*behind, origin])
    before, now = standing(partial, start), standing(partial, start)
    operation = decay_of(before, *decay)
    course = now.course.after(operation, now.step, now.n_tokens, now.rate)
    append_operations(partial, [operation])
    for path in sorted(partial.rglob("*")):
        sync_path(path)
    return Recorded(operation, before, replace(now, course=course))


def _copy_log(source: Path, target: Path, position: LogPosition) -> None:
    """The log up to a commit, in the form in which it lies there. Lines are copied, since the branch will write behind them."""
    target.mkdir(parents=True)
    for name, end in ((ROLLOUTS, position.rollouts), (TEXTS, position.texts)):
        path = source / name
        begin = begin_of(path)
        check_parts(path, begin)
        with (target / name).open("xb") as file:
            for chunk in _up_to(path, begin, end):
                file.write(chunk)
        if end >= begin.end:
            for part in begin.parts:
                _linked(str(source / part.name), str(target / part.name))
        if begin_of(path) != begin:
            raise CurriculaError(f"{path}: it was compacted while it was copied; try again")
    if last_commit(target)[1] != position:
        raise CurriculaError(
            f"{source}: no commit of the log ends at bytes {position.rollouts} and {position.texts}, where the checkpoint says; "
            "log and checkpoint are not of the same run"
        )


def _up_to(path: Path, begin: Begin, end: int) -> Iterator[bytes]:
    """The bytes of a log's file up to a position; lines of parts only where the position lies among them."""
    if end < begin.end:
        left = end
        for part in begin.parts:
            for payload in lines_of(path, part):
                line = sealed(payload)
                if left < len(line):
                    return
                left -= len(line)
                yield line
        return
    left = end + begin.shift
    for chunk in rest_of(path, begin, -begin.shift) if left else ():
        yield chunk[:left]
        left -= min(left, len(chunk))
        if not left:
            return


def _linked(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
    return target
