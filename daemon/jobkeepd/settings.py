"""Every setting of the daemon, declared once.

What lives here: the settings with their defaults, and where their values come from: a flag, else a
variable `JOBKEEPD_…`, else a key of the TOML file, else the default. To add one is to add a field.
What may not: acting on a setting.
"""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.version import __version__
from jobkeepd.store.cache import DEFAULT_CACHE_BYTES

ENVIRONMENT_PREFIX = "JOBKEEPD_"


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a daemon is started with."""

    db: Annotated[
        str,
        Meta(
            description="the database file (default: $STATE_DIRECTORY/state.db in a service, else "
            "$XDG_STATE_HOME/jobkeep/state.db)"
        ),
    ] = ""
    socket: Annotated[
        str,
        Meta(
            description="the Unix socket to listen on (default: $XDG_RUNTIME_DIR/jobkeep/"
            "jobkeep.sock, else /run/jobkeep/jobkeep.sock)"
        ),
    ] = ""
    durability: Annotated[
        Literal["full", "normal"],
        Meta(
            description="full: an acknowledged write survives a power cut; normal: it survives the "
            "end of the daemon only (default: full)"
        ),
    ] = "full"
    cache_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="how much memory the states that were read last may take; 0 keeps none "
            f"(default: {DEFAULT_CACHE_BYTES})",
        ),
    ] = DEFAULT_CACHE_BYTES
    log_format: Annotated[
        Literal["text", "json", "journal"],
        Meta(description="how log lines look on standard error (default: text)"),
    ] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="the least important lines that are logged (default: info)"),
    ] = "info"

    @property
    def database(self) -> Path:
        """Where the database is."""
        return Path(self.db) if self.db else _default_directory_of_state() / "state.db"

    @property
    def socket_path(self) -> Path:
        """Where the socket is."""
        if self.socket:
            return Path(self.socket.removeprefix("unix://"))
        return _default_directory_of_runtime() / "jobkeep.sock"


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings for a command line and an environment.

    Raises InvalidRequest, naming the flag, the variable or the key, for what is not allowed. Ends
    the process for --help, --version and unknown flags, as argparse does.
    """
    flags = vars(_parser().parse_args(arguments))
    config = flags.pop("config") or environment.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    values: dict[str, Any] = _from_file(Path(config)) if config else {}
    for name in Settings.__struct_fields__:
        variable = f"{ENVIRONMENT_PREFIX}{name.upper()}"
        if flags[name] is not None:
            values[name] = _checked(f"--{name.replace('_', '-')}", name, flags[name])
        elif variable in environment:
            values[name] = _checked(variable, name, environment[variable])
    return Settings(**values)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidRequest(f"the configuration {path} cannot be read: {error}") from error
    unknown = sorted(set(found) - set(Settings.__struct_fields__))
    if unknown:
        raise InvalidRequest(
            f"{path}: unknown key {unknown[0]!r}; expected {', '.join(Settings.__struct_fields__)}"
        )
    return {name: _checked(f"{path}: {name}", name, value) for name, value in found.items()}


def _checked(source: str, name: str, value: Any) -> Any:
    try:
        return msgspec.convert(value, _TYPES[name], strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{source} is {value!r}; expected {_expected(name)}") from error


def _expected(name: str) -> str:
    if choices := _choices(name):
        return f"one of {', '.join(choices)}"
    return "a whole number of bytes, 0 or more" if name.endswith("_bytes") else "text"


def _choices(name: str) -> list[str]:
    """The values of a setting that has only a few."""
    return [str(one) for one in get_args(get_args(_TYPES[name])[0])]


def _metavar(name: str) -> str:
    """How the value of a flag is written in --help."""
    if choices := _choices(name):
        return f"{{{','.join(choices)}}}"
    return "BYTES" if name.endswith("_bytes") else "PATH"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jobkeepd",
        description="Keeps the state of jobs in one SQLite database and serves it on a Unix "
        "socket. Runs in the foreground until SIGTERM or SIGINT.",
        epilog=f"Each option may also be a variable {ENVIRONMENT_PREFIX}… or a key of the "
        "configuration file. Exit status: 0 stopped as asked, 1 failed, 2 wrong arguments, 74 the "
        "database failed, 75 the database or the socket is in use.",
    )
    parser.add_argument("--version", action="version", version=f"jobkeepd {__version__}")
    parser.add_argument("--config", metavar="FILE", help="read settings from this TOML file")
    for name, annotation in _TYPES.items():
        (meta,) = annotation.__metadata__
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar=_metavar(name),
            help=meta.description,
        )
    return parser


_TYPES = get_type_hints(Settings, include_extras=True)


def _default_directory_of_state() -> Path:
    service = os.environ.get("STATE_DIRECTORY")
    if service:
        return Path(service.split(":")[0])
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "jobkeep"


def _default_directory_of_runtime() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return (Path(runtime) if runtime else Path("/run")) / "jobkeep"
