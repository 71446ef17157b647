"""The manual pages jobkeepd(8) and jobkeep(1), as roff, on standard output.

What lives here: the text that is not in the declarations of settings and commands, and how both
become a page (man(7)). What may not: what a flag does; that is said where it is declared.

    python install/manual.py jobkeepd > jobkeepd.8
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable

import click

from jobkeep.cli.app import COMMANDS, group
from jobkeep_protocol.version import __version__
from jobkeepd.settings import command_line

DAEMON_FILES = [
    ("/var/lib/jobkeep/state.db", "The database of the system service, for its user alone."),
    ("/etc/jobkeep/jobkeepd.toml", "The configuration of the system service, if it is there."),
    ("/run/jobkeep/jobkeep.sock", "The socket of the system service."),
    ("~/.local/state/jobkeep/state.db", "The database of a user."),
    ("~/.config/jobkeep/jobkeepd.toml", "The configuration of a user's service, if it is there."),
    ("$XDG_RUNTIME_DIR/jobkeep/jobkeep.sock", "The socket of a user."),
]
DAEMON_ENVIRONMENT = [
    ("JOBKEEPD_…", "Each setting, by its name in upper case: JOBKEEPD_LOG_LEVEL."),
    ("JOBKEEPD_CONFIG", "The configuration file, as --config."),
    (
        "STATE_DIRECTORY, CONFIGURATION_DIRECTORY, LISTEN_FDS, NOTIFY_SOCKET, WATCHDOG_USEC, "
        "JOURNAL_STREAM",
        "What systemd says to a service: where its state and its configuration are, which socket "
        "is handed over, where to say that it is ready and alive, and whether it logs to the "
        "journal.",
    ),
]
DAEMON_SIGNALS = [
    ("SIGTERM, SIGINT", "Answer what was received, commit, checkpoint, end."),
    ("SIGHUP", "Read the settings again: limits, roles and the log level. Others need a restart."),
]
DAEMON_STATUSES = [
    ("0", "Stopped as asked."),
    ("1", "It cannot start: the last line says why."),
    ("2", "The arguments, or the configuration, are wrong."),
    ("70", "A defect of jobkeepd."),
    ("74", "The database failed while it ran."),
    ("75", "The database or the socket is in use."),
]
CLIENT_STATUSES = [
    ("0", "Good."),
    ("1", "Failed, or the answer is no."),
    ("2", "Wrong arguments."),
    ("3", "No daemon."),
    ("4", "Not found."),
    ("124", "Timed out."),
    ("130", "Interrupted."),
]


def jobkeepd() -> str:
    """jobkeepd(8)."""
    parser = command_line()
    options = [
        (", ".join(action.option_strings) + _value(action), _help(parser, action))
        for action in parser._actions  # noqa: SLF001 # argparse has no other list of them
    ]
    return _page(
        ("jobkeepd", "8", "keeps the state of resumable jobs"),
        [
            ("SYNOPSIS", [".B jobkeepd", _escaped("[OPTION …]")]),
            ("DESCRIPTION", [_text(parser.description or "")]),
            ("OPTIONS", _list(options)),
            ("ENVIRONMENT", _list(DAEMON_ENVIRONMENT)),
            ("FILES", _list(DAEMON_FILES)),
            ("SIGNALS", _list(DAEMON_SIGNALS)),
            ("EXIT STATUS", _list(DAEMON_STATUSES)),
            ("SEE ALSO", [".BR jobkeep (1),", ".BR systemd.service (5),", ".BR journalctl (1)"]),
        ],
    )


def jobkeep() -> str:
    """jobkeep(1)."""
    context = group.make_context("jobkeep", [], resilient_parsing=True)
    commands: list[str] = []
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None, name
        inner = click.Context(command, context, info_name=name)
        usage = " ".join(command.collect_usage_pieces(inner))
        commands += [f".SS {_escaped(f'jobkeep {name} {usage}')}", _text(command.help or "")]
        commands += _list(_options(command, inner))
    return _page(
        ("jobkeep", "1", "looks at kept jobs, and runs resumable ones"),
        [
            ("SYNOPSIS", [".B jobkeep", _escaped("[--socket PATH] COMMAND [ARGUMENT …]")]),
            ("DESCRIPTION", [_text(group.help or "")]),
            ("OPTIONS", _list(_options(group, context))),
            ("COMMANDS", commands),
            ("ENVIRONMENT", _list([("JOBKEEP_SOCKET", "The daemon's socket, as --socket.")])),
            ("EXIT STATUS", _list(CLIENT_STATUSES)),
            ("SEE ALSO", [".BR jobkeepd (8)"]),
        ],
    )


def _value(action: argparse.Action) -> str:
    return f" {action.metavar}" if isinstance(action.metavar, str) else ""


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return (action.help or "") % {**vars(action), "prog": parser.prog}


def _options(command: click.Command, context: click.Context) -> list[tuple[str, str]]:
    records = (one.get_help_record(context) for one in command.get_params(context))
    return [record for record in records if record is not None and record[1]]


def _page(
    name_section_subject: tuple[str, str, str], parts: Iterable[tuple[str, list[str]]]
) -> str:
    name, section, subject = name_section_subject
    lines = [
        f'.TH {name.upper()} {section} "" "jobkeep {__version__}"',
        ".SH NAME",
        rf"{name} \- {_escaped(subject)}",
    ]
    for heading, body in parts:
        lines += [f".SH {heading}", *body]
    return "\n".join(lines) + "\n"


def _list(entries: Iterable[tuple[str, str]]) -> list[str]:
    """Terms, each with what is said of it."""
    lines: list[str] = []
    for term, text in entries:
        lines += [".TP", rf"\fB{_escaped(term)}\fR", _text(text)]
    return lines


def _text(text: str) -> str:
    """Prose: paragraphs are kept, line breaks within them are not."""
    paragraphs = (" ".join(one.split()) for one in text.replace("\b", "").split("\n\n"))
    return "\n.PP\n".join(_escaped(one) for one in paragraphs)


def _escaped(text: str) -> str:
    """Text in which roff finds nothing to do (groff_char(7))."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("…", "...")
    return rf"\&{text}" if text.startswith((".", "'")) else text


PAGES: dict[str, Callable[[], str]] = {"jobkeepd": jobkeepd, "jobkeep": jobkeep}

if __name__ == "__main__":
    print(PAGES[sys.argv[1]](), end="")
