"""`jobkeep search`: attempts found by words in their prompts, outputs and errors."""

from __future__ import annotations

import sys

import click

from jobkeep.cli.common import check_job, complete_job, connect, json_option, limit_option
from jobkeep.cli.output import document, local_now, message, printable
from jobkeep.cli.times import ago
from jobkeep_protocol.search import SearchHit

FOUND = "bold red"


@click.command("search")
@click.argument("text", nargs=-1, required=True)
@click.option(
    "--job",
    "job_id",
    metavar="ID",
    help="Only attempts of this job.",
    shell_complete=complete_job,
)
@limit_option(20)
@json_option
@click.pass_context
def command(
    ctx: click.Context, text: tuple[str, ...], job_id: str | None, limit: int, as_json: bool
) -> None:
    """Find attempts by words in prompts, outputs and error messages, the best matches first.

    All words must be there; '"these words"' beside each other, 'word*' any word that begins so,
    -word not (after --), 'this OR that' one of both. Letters count without case and accents, and
    all but letters and digits parts words: text without spaces, as in Japanese, is one word.
    """
    with connect(ctx) as client:
        check_job(client, job_id)
        page = client.search_executions(" ".join(text), job_id=job_id, limit=limit)
    if as_json:
        document(page)
    else:
        for hit in page.hits:
            _print(hit)
    if not page.hits:
        message("nothing matches")
    elif page.more and not as_json:
        message(f"--limit {limit} is reached; there are more")
    if not page.complete:
        message("older attempts are still being added to the index; ask again later for all")


def _print(hit: SearchHit) -> None:
    """A line about the attempt, and one with what was found."""
    exit_code = "" if hit.exit_code is None else f", exit {hit.exit_code}"
    print(
        f"{printable(hit.job_id)}  sheet {hit.sheet_num}, attempt {hit.attempt_num}, "
        f"{ago(hit.at, local_now())}{exit_code}, {hit.field}"
    )
    parts = _parts(hit)
    if not sys.stdout.isatty():
        print("    " + "".join(part for part, _ in parts))
        return
    from rich.console import Console
    from rich.text import Text

    line = Text("    ")
    for part, is_found in parts:
        line.append(part, style=FOUND if is_found else "")
    Console(soft_wrap=True).print(line)


def _parts(hit: SearchHit) -> list[tuple[str, bool]]:
    """The snippet in one line, apart where a word that was found begins or ends."""
    parts: list[tuple[str, bool]] = []
    place = 0
    for mark in hit.marks:
        parts += [
            (hit.snippet[place : mark.start], False),
            (hit.snippet[mark.start : mark.end], True),
        ]
        place = mark.end
    parts.append((hit.snippet[place:], False))
    return [(printable(_on_one_line(part)), is_found) for part, is_found in parts]


def _on_one_line(text: str) -> str:
    return "".join(" " if one.isspace() else one for one in text)
