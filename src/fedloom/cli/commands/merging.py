"""Commands of merging: merge, conflicts, resolve, cherry-pick, revert."""

from __future__ import annotations

from typing import Annotated

import typer

from fedloom.cli.commands.options import HERE, AsJson, Project
from fedloom.errors import SpecError

RuleTexts = Annotated[
    list[str] | None,
    typer.Option("--rule", help="GLOB=STRATEGY for some entries, such as 'head.*=ours'; the first that fits decides."),
]
NoMeasure = Annotated[bool, typer.Option("--no-measure", help="Do not measure the result at the sites.")]
Mainline = Annotated[
    int | None, typer.Option("--mainline", min=1, help="Of a merge: the parent its change is counted from.")
]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (merge, conflicts, resolve):
        app.command()(command)
    app.command("cherry-pick")(cherry_pick)
    app.command()(revert)


def merge(  # noqa: PLR0913  each is an option
    branches: Annotated[list[str] | None, typer.Argument(help="Branches or commits to merge into this one.")] = None,
    project: Project = HERE,
    strategy: Annotated[
        str | None,
        typer.Option("--strategy", help="For contested model tensors: weighted_mean, ties:density=0.2, ours, ..."),
    ] = None,
    rule: RuleTexts = None,
    weights: Annotated[
        str, typer.Option("--weights", help="NAME=WEIGHT by comma, a branch each; else the rows behind each.")
    ] = "",
    optimizer: Annotated[str, typer.Option("--optimizer", help="State of the hub's optimizer: drop, base, mean.")] = (
        "drop"
    ),
    *,
    allow_unrelated: Annotated[
        bool, typer.Option("--allow-unrelated", help="Merge histories that have no commit in common.")
    ] = False,
    no_measure: NoMeasure = False,
    go_on: Annotated[bool, typer.Option("--continue", help="Finish the merge under way: all is resolved.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Give up the merge under way.")] = False,
    json: AsJson = False,
) -> None:
    """Merge branches into the current one, entry by entry; what is contested becomes conflicts or a strategy's."""
    from fedloom.cli.merging import MergeWishes, abort_merge, continue_merge, merge_branches

    if abort or go_on:
        ending = abort_merge if abort else continue_merge
        raise typer.Exit(ending(project, branches or (), measured=not no_measure, as_json=json))
    wishes = MergeWishes(strategy, tuple(rule or ()), weights, optimizer, allow_unrelated, not no_measure)
    raise typer.Exit(merge_branches(project, branches or (), wishes, as_json=json))


def conflicts(
    name: Annotated[
        str | None, typer.Argument(metavar="[REF]", help="A commit; else the merge under way, or the current branch.")
    ] = None,
    project: Project = HERE,
    *,
    json: AsJson = False,
) -> None:
    """List what a merge could not decide, with figures that help to; exit code 5 when there is any."""
    from fedloom.cli.merging import print_conflicts

    raise typer.Exit(print_conflicts(project, name, as_json=json))


def resolve(
    path: Annotated[str, typer.Argument(help="Path of a conflict, or a glob such as 'head.*'.")],
    take: Annotated[
        str, typer.Option("--take", help="ours, theirs, base, a head's number, or a strategy such as weighted_mean.")
    ],
    project: Project = HERE,
    *,
    json: AsJson = False,
) -> None:
    """Settle conflicts of the merge under way; `merge --continue` finishes it."""
    from fedloom.cli.merging import resolve_conflicts

    raise typer.Exit(resolve_conflicts(project, path, take, as_json=json))


def cherry_pick(
    name: Annotated[str, typer.Argument(metavar="COMMIT", help="The commit whose change is done again.")],
    project: Project = HERE,
    mainline: Mainline = None,
    rule: RuleTexts = None,
    *,
    no_measure: NoMeasure = False,
    json: AsJson = False,
) -> None:
    """Do the change of one commit again on the current branch."""
    from fedloom.cli.merging import Replay, replay

    wishes = Replay("cherry-pick", mainline, tuple(rule or ()), not no_measure)
    raise typer.Exit(replay(project, name, wishes, as_json=json))


def revert(  # noqa: PLR0913  each is an option
    name: Annotated[
        str | None, typer.Argument(metavar="[COMMIT]", help="The commit whose change is undone; or give --site.")
    ] = None,
    project: Project = HERE,
    mainline: Mainline = None,
    rule: RuleTexts = None,
    site: Annotated[str, typer.Option("--site", help="Take this site's part out of the model instead.")] = "",
    rounds: Annotated[str, typer.Option("--rounds", help="With --site: only these rounds, such as 3..7.")] = "",
    method: Annotated[
        str, typer.Option("--method", help="With --site: subtract, repair, replay or retrain.")
    ] = "repair",
    repair_rounds: Annotated[
        int, typer.Option("--repair-rounds", min=1, help="With --method repair: rounds to train on without it.")
    ] = 5,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="With --site: also where subtraction is known to wreck models.")
    ] = False,
    no_measure: NoMeasure = False,
    json: AsJson = False,
) -> None:
    """Undo the change of one commit on the current branch, or take a site's part out of the model."""
    if site and name:
        raise SpecError("give a commit or --site, not both")
    if site:
        from fedloom.cli.revert import revert_site

        how = {"rounds": rounds, "method": method, "repair_rounds": repair_rounds, "force": force}
        raise typer.Exit(revert_site(project, site, as_json=json, **how))  # type: ignore[arg-type]  # by name
    if not name:
        raise SpecError("say which commit to undo, or which --site to take out")
    from fedloom.cli.merging import Replay, replay

    wishes = Replay("revert", mainline, tuple(rule or ()), not no_measure)
    raise typer.Exit(replay(project, name, wishes, as_json=json))
