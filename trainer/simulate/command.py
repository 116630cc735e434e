"""What `curricula simulate` does, from the words of the command line to tables, pictures and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from curricula.types import CurriculaError
from trainer.recipe_words import read_recipes
from trainer.simulate import NOTE
from trainer.simulate.compare import Comparison, OnDone, Recipes, compare, with_marks
from trainer.simulate.files import write_comparison, write_map
from trainer.simulate.pictures import draw_comparison, draw_map
from trainer.simulate.setting import Setting
from trainer.simulate.sweep import Regime, read_axes, settings_of
from trainer.simulate.tables import comparison_table, map_table, tally_table


@dataclass(frozen=True)
class Effort:
    """How often, on how many processes, and where the results go."""

    seeds: int
    processes: int
    out: Path


def simulate_command(words: Sequence[str], setting: Setting, sweep: Sequence[str], effort: Effort, console: Console) -> None:
    """Compare the recipes in one setting, or in every setting of a sweep; prints and writes."""
    recipes = with_marks(read_recipes(words))
    if sweep:
        _show_map(recipes, setting, sweep, effort, console)
    else:
        _show_comparison(recipes, setting, effort, console)
    console.print(f"\n{NOTE}", style="yellow", highlight=False)


def setting_of(given: Mapping[str, float | None], overrides: Sequence[str]) -> Setting:
    """The setting that options (None = left out) and ``key=value`` overrides lead to; ``visits`` last."""
    values = {key: value for key, value in given.items() if value is not None}
    for text in overrides:
        key, _, value = text.partition("=")
        try:
            values[key.strip()] = float(value)
        except ValueError as error:
            raise CurriculaError(f"--set {text}: expected name=number, for example levels=12") from error
    if "visits" in values and "prompts" in values:
        raise CurriculaError("simulate: visits and prompts say the same (visits = steps x groups / prompts); give one of them")
    setting = Setting()
    for key in sorted(values, key=lambda key: key == "visits"):
        setting = setting.with_value(key, values[key])
    return setting


def _show_comparison(recipes: Recipes, setting: Setting, effort: Effort, console: Console) -> None:
    with _progress(console, effort.seeds) as done:
        (comparison,) = compare(recipes, [setting], effort.seeds, effort.processes, done)
    console.print(comparison_table(comparison))
    write_comparison(effort.out / "comparison.json", recipes, comparison)
    _say_where(console, [effort.out / "comparison.json", *draw_comparison(comparison, effort.out / "comparison")])


def _show_map(recipes: Recipes, base: Setting, sweep: Sequence[str], effort: Effort, console: Console) -> None:
    chosen = settings_of(base, read_axes(sweep))
    with _progress(console, effort.seeds * len(chosen)) as done:
        comparisons: list[Comparison] = compare(recipes, [s for _, s in chosen], effort.seeds, effort.processes, done)
    regimes = [Regime(values, comparison) for (values, _), comparison in zip(chosen, comparisons, strict=True)]
    console.print(map_table(regimes), tally_table(regimes))
    write_map(effort.out / "map.json", recipes, regimes)
    _say_where(console, [effort.out / "map.json", *draw_map(regimes, effort.out / "map")])


def _say_where(console: Console, paths: Sequence[Path]) -> None:
    console.print("\n".join(str(path) for path in paths), soft_wrap=True, highlight=False)


@contextmanager
def _progress(console: Console, total: int) -> Iterator[OnDone]:
    with Progress(TextColumn("seeds"), BarColumn(), TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("seeds", total=total)
        yield lambda: bar.advance(task)
