"""The command line as a whole: which commands there are, and what an error becomes.

What lives here: the group with its global options, finding a command's module when it is called,
and the mapping from errors to one line on stderr and an exit status. What may not: what any
command does, and imports of what only some commands need.

Exit statuses: 0 good, 1 failed or negative, 2 wrong arguments, 3 no daemon, 4 not found, 124 timed
out, 130 interrupted, 141 nobody reads the output any more.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from jobkeep_protocol.errors import (
    DaemonUnavailable,
    InvalidRequest,
    JobkeepError,
    JobNotFound,
    RequestTimeout,
)
from jobkeep_protocol.version import __version__

COMMANDS = {
    "backup": "Write a copy of the database to a new file.",
    "call": "Ask for any operation; the reply is JSON.",
    "clients": "Show who is connected, or end a connection.",
    "delete": "Delete a job with its sheets and its history.",
    "durations": "Show how long attempts take, and the slowest.",
    "errors": "Show failures by category, code, exit code and signal.",
    "export": "Write jobs with their history to a new file.",
    "history": "Show the attempts of a job, newest first.",
    "import": "Copy jobs with their history from a file.",
    "introspect": "Say which operations there are, and what one takes and gives.",
    "jobs": "List jobs, last updated first.",
    "monitor": "Show requests as they are answered.",
    "outcomes": "Show how sheets came out, by outcome category.",
    "overview": "Show how the work goes: jobs, sheets, rates, throughput, cost.",
    "patterns": "Show what sheets have learned, and whether it helps.",
    "prune": "Remove old attempts, or whole jobs of a status and age.",
    "run": "Run a command for each item; the same line again continues.",
    "search": "Find attempts by words in prompts, outputs and errors.",
    "show": "Show one job and the sheets that need attention.",
    "similar": "Show attempts that failed alike, and what happened next.",
    "slowlog": "Show the slowest requests since the daemon started.",
    "stats": "Show figures of one job.",
    "status": "Show how the daemon is.",
    "timeline": "Show what happened hour by hour, or day by day.",
    "top": "Show jobs and clients, live.",
    "validations": "Show how often validations passed and failed, by rule.",
    "wait": "Wait for a job to end; the exit status is the outcome.",
    "watch": "Show what happens, as it is committed.",
}
"""Each command is the module of its name; the help is here so that listing imports none."""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 4
EXIT_INTERRUPTED = 128 + 2
"""As a shell reports SIGINT. The numbers are written out: `signal` takes long to import."""
EXIT_UNREAD = 128 + 13
"""As a shell reports SIGPIPE."""
EXIT_STATUSES: dict[type[JobkeepError], int] = {
    InvalidRequest: EXIT_USAGE,
    DaemonUnavailable: 3,
    JobNotFound: EXIT_NOT_FOUND,
    RequestTimeout: 124,
}
"""For the errors that do not simply mean that it failed."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"jobkeep.cli.{cmd_name}").command
        # What was imported stays until the end. Looking through it for garbage, time and again
        # while it was imported and once more at exit, took a fifth of `jobkeep status`.
        gc.freeze()
        gc.enable()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from jobkeep.cli.completion import commands

        return [*commands(incomplete), *click.Command.shell_complete(self, ctx, incomplete)]


@click.group(
    cls=LazyGroup,
    no_args_is_help=False,  # a command is missing: that is wrong usage, in every version of click
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--socket", metavar="PATH", help="The daemon's socket, a path or unix:///path.")
@click.version_option(__version__, message="jobkeep %(version)s")
@click.pass_context
def group(ctx: click.Context, socket: str | None) -> None:
    """Look at the jobs that a jobkeep daemon keeps, and run resumable ones.

    The socket is --socket, else $JOBKEEP_SOCKET, else $XDG_RUNTIME_DIR/jobkeep/jobkeep.sock if
    that exists, else /run/jobkeep/jobkeep.sock. Data goes to standard output, messages to standard
    error. Exit status: 0 good, 1 failed, 2 wrong arguments, 3 no daemon, 4 not found, 124 timed
    out, 130 interrupted.
    """
    ctx.obj = socket


def run(arguments: Sequence[str]) -> int:
    """Run a command line; gives the exit status. Every error is one line on stderr."""
    _open_missing_streams()
    try:
        with group.make_context("jobkeep", list(arguments)) as context:
            status = group.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        return _fail(EXIT_USAGE, _usage_message(error))
    except click.ClickException as error:
        return _fail(error.exit_code, error.format_message())
    except (click.Abort, KeyboardInterrupt):
        return _fail(EXIT_INTERRUPTED, "interrupted")
    except JobkeepError as error:
        return _fail(_status_of(error), str(error))
    except BrokenPipeError:
        # As the other programs of a pipeline do when its reader has left: without a word.
        _discard_output()
        return EXIT_UNREAD
    except OSError as error:
        _discard_output()
        return _fail(EXIT_FAILED, _system_message(error))
    return status if isinstance(status, int) else 0


def _open_missing_streams() -> None:
    """A stream that was closed by the shell (`>&-`) goes nowhere; Python has None in its place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115, PTH123 # for the whole process
            setattr(sys, name, stream)


def _discard_output() -> None:
    from jobkeep.cli.output import discard

    discard(sys.stdout)


def _status_of(error: JobkeepError) -> int:
    return next(
        (status for kind, status in EXIT_STATUSES.items() if isinstance(error, kind)), EXIT_FAILED
    )


def _usage_message(error: click.UsageError) -> str:
    if error.ctx is None:
        return error.format_message()
    return f"{error.format_message()} (see `{error.ctx.command_path} --help`)"


def _system_message(error: OSError) -> str:
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{os.fsdecode(error.filename)}: {error.strerror}"


def _fail(status: int, reason: str) -> int:
    from jobkeep.cli.output import message

    message(" ".join(reason.split()))
    return status
