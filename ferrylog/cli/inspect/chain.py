"""`ferrylog inspect chain`: the links of a chain, and the times that it leads back to."""

from pathlib import Path
from typing import Annotated

import typer

from executors.dumps.manifest import read_facts
from executors.dumps.model import NeverStops
from executors.increments.chain import as_far_as_whole, check_base, check_link, links_lying
from executors.increments.model import Chain
from ferrylog.cli import options as o
from ferrylog.views.chain import chain_report, chain_text
from statemachine.errors import FerrylogError, OperatorError


def chain(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", resolve_path=True, help="Of `dump --out`.")
    ],
    check: Annotated[bool, typer.Option("--check", help="Read every file, to the byte.")] = False,
    journal: o.Journal = o.DEFAULT_JOURNAL,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> None:
    """Show a full dump and its increments: what each holds, whether each follows the one before
    it, which times can be restored to; exit 4 when something is wrong."""
    o.Common(journal, json, verbose, quiet)
    found, broken = as_far_as_whole(folder)
    damage = _damage(found) if check else None
    folders = [found.root, *(each.dump.root for each in found.increments)]
    facts = [read_facts(each) for each in folders]
    report = chain_report(found, facts, links_lying(folder), broken, damage)
    typer.echo(report.as_json() if json else chain_text(report))
    errors = [*(damage or {}).values(), *([broken] if broken else [])]
    if json:
        raise typer.Exit(max((error.exit_code for error in errors), default=0))
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"[{other.code}] {other}")
        raise errors[0]


def _damage(found: Chain) -> dict[int, FerrylogError]:
    """The first file of each link that is not as it was written."""
    damage: dict[int, FerrylogError] = {}
    for number in range(len(found.increments) + 1):
        try:
            if number:
                check_link(found.increments[number - 1], NeverStops())
            else:
                check_base(found, NeverStops())
        except OperatorError as error:
            damage[number] = error
    return damage
