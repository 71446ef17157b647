"""The lines at the top: how the daemon is, which jobs there are, what is not as it should be.

What lives here: these lines, and the last line with the keys. What may not: the lists between them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.text import Text

from jobkeep.cli.output import counted, printable
from jobkeep.cli.top.jobs import STUCK
from jobkeep.cli.top.model import Page, Top
from jobkeep.cli.top.sample import Sample, Silence
from jobkeep.cli.top.words import ALARM_STYLE, number, since, status_text
from jobkeep_protocol.messages import Worry

ALARM_LINES = 4

_KEYS = {
    Page.JOBS: "? help  q quit  Enter open  / filter  s sort  f status  c clients  Space freeze",
    Page.CLIENTS: "? help  q quit  c jobs  Space freeze",
    Page.JOB: "? help  q back  Tab sheets/outputs  Space freeze",
    Page.HELP: "any key goes back",
}


def head(top: Top, at: float, width: int) -> list[Text]:
    """The lines above the lists, at this moment of the monotonic clock."""
    lines = []
    if top.sample is not None:
        lines = [_daemon(top.sample), _jobs(top, top.sample)]
    if top.silence is not None:
        lines += _alarm(top.silence, at, width)
    elif top.sample is not None:
        lines += _worry(top.sample.status.worries)
    return lines


def foot(top: Top) -> Text:
    """The last line: what is typed, or the keys."""
    if top.is_typing:
        return Text.assemble(("/", "bold"), printable(top.jobs.text), ("_", "blink"))
    line = Text(style="dim")
    if top.is_frozen:
        line.append(" FROZEN ", "bold black on cyan not dim").append("  ")
    return line.append(_KEYS[top.page])


def _alarm(silence: Silence, at: float, width: int) -> list[Text]:
    """That there is no answer, and all of what to do about it."""
    text = f"NO ANSWER ({since(at - silence.at)}): {printable(silence.reason)}"
    # A path is broken by no hyphen of its own: it may be copied from here.
    lines = textwrap.wrap(
        text, width, max_lines=ALARM_LINES, placeholder="…", break_on_hyphens=False
    )
    return [Text(line.ljust(width), style=ALARM_STYLE) for line in lines]


def _worry(worries: Sequence[Worry]) -> list[Text]:
    """The first of what the daemon worries about; `jobkeep status` has all."""
    if not worries:
        return []
    more = f" (of {len(worries)}: `jobkeep status`)" if len(worries) > 1 else ""
    text = f"! {worries[0].what}; {worries[0].advice}{more}"
    return [Text(printable(text), style="yellow")]


def _daemon(sample: Sample) -> Text:
    status = sample.status
    line = Text.assemble(
        (f"jobkeepd {printable(status.version)}", "bold"),
        f"  up {since(status.uptime_seconds)}",
        f"  {counted(status.clients, 'client')}",
        f"  {status.queued_writes} queued",
        f"  {number(status.writes_per_second)} writes/s",
        f"  {number(status.commits_per_second)} commits/s",
    )
    line.append(f"  {sample.now:%H:%M:%S}", "dim")
    return line


def _jobs(top: Top, sample: Sample) -> Text:
    counts = sample.status.jobs
    line = Text(f"{counted(sum(counts.values()), 'job')}:")
    if not counts:
        line.append(" none")
    if top.jobs.stuck:
        line.append("  ").append(f"{top.jobs.stuck} {STUCK}", ALARM_STYLE)
    for status, count in counts.items():
        line.append(f"  {count:,} ").append_text(status_text(status))
    return line
