"""`curricula advise LOG`: what the command prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from replay.advise import Finding, advise, as_plain
from replay.advise.finding import Severity
from replay.advise.intervals import clusters, has_steps
from replay.sources import load
from replay.types import Lack, LoggedRun
from trainer.log_format import format_of

STYLE: dict[Severity, str] = {"high": "bold red", "medium": "yellow", "low": "cyan", "not estimable": "dim"}
CAVEATS: dict[Lack, str] = {
    "rejected groups": "rejected groups are not in this log: shares are of the others\n",
    "group id": "the log has no group ids: groups were put together from its rows\n",
}
CLAIM = (
    "These are facts about the logged run, not promises: no log tells what another recipe would have reached. Compare with uniform "
    "at equal rollouts; docs/choosing.md says when which recipe won, tied or lost, and at what cost."
)


def advise_command(log: Path, format: str | None, as_json: bool, console: Console) -> None:
    """Load the log, print what there is to say."""
    run = load(log, format_of(format))
    findings = advise(run)
    if as_json:
        print(json.dumps(advice_json(run, findings), indent=2, ensure_ascii=False))
    else:
        console.print(advice_view(run, findings))


def advice_json(run: LoggedRun, findings: Sequence[Finding]) -> dict[str, object]:
    """The findings as JSON values; the keys are stable."""
    return {
        "source": run.source,
        "groups": len(run),
        "rollouts": len(run.group_R),
        "prompts": len(run.pool),
        "distributions": run.pool.n_distributions,
        "clusters": clusters(run)[1],
        "confidence": 0.95,
        "lacks": sorted(run.lacks),
        "claim": CLAIM,
        "findings": [as_plain(finding) for finding in findings],
    }


def advice_view(run: LoggedRun, findings: Sequence[Finding]) -> RenderableType:
    """Findings by severity, each with its evidence; what cannot be estimated in one line each at the end."""
    told = [finding for finding in findings if finding.severity != "not estimable"]
    parts: list[RenderableType] = [_head(run), *(_view(finding) for finding in told)]
    if not told:
        parts.append(Text("Nothing to say: no finding spoke.\n"))
    if len(told) < len(findings):
        parts.append(Text("what this log cannot tell", "bold dim"))
        parts += [_silent(finding) for finding in findings if finding.severity == "not estimable"]
        parts.append(Text())
    return Group(*parts, Text(CLAIM, "dim"))


def _head(run: LoggedRun) -> Text:
    steps = f", {len(set(run.step_G.tolist())):,} steps" if has_steps(run) else ""
    return Text.assemble(
        (run.source, "bold"),
        f"\n{len(run):,} groups, {len(run.group_R):,} rollouts, {len(run.pool):,} prompts in {run.pool.n_distributions:,} "
        f"distribution{'' if run.pool.n_distributions == 1 else 's'}{steps}; intervals are 95 %, over {clusters(run)[1]}\n",
        *(text for lack, text in CAVEATS.items() if lack in run.lacks),
    )


def _view(finding: Finding) -> RenderableType:
    text = Text.assemble((finding.severity, STYLE[finding.severity]), "  ", (finding.name, "bold"), "  ", finding.sentence)
    body = Text()
    for number in finding.evidence:
        body.append(f"{number}\n", "dim")
    for suggestion in finding.suggestions:
        body.append("try ", "green")
        body.append(f"{suggestion}\n")
    if finding.refuted_by:
        body.append(f"refuted by: {finding.refuted_by}\n", "dim italic")
    return Group(text, Padding(body, (0, 0, 0, 4)))


def _silent(finding: Finding) -> RenderableType:
    rest = "".join(f"\n    {number}" for number in finding.evidence)
    return Text(f"{finding.name}: {finding.sentence}{rest}", "dim")
