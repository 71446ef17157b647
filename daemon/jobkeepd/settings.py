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
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.states import JobStatus
from jobkeep_protocol.version import __version__
from jobkeepd.limits import Limits
from jobkeepd.store.cache import DEFAULT_CACHE_BYTES

ENVIRONMENT_PREFIX = "JOBKEEPD_"

AnyRole = Literal["none", "read", "write", "admin"]
"""A role, or none: then nothing may be done."""

UnseenPeers = Literal["refuse", "allow"]


_AGE = "[0-9]+[smhdw]"
_PRUNABLE = f"({'|'.join(status for status in JobStatus if status is not JobStatus.RUNNING)})"
"""Nothing goes of a job that is running."""
_AGE_FORM = "an age such as 30d, 12h or 2w"


class Settings(Limits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a daemon is started with, its limits included."""

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
    socket_mode: Annotated[
        str,
        Meta(
            pattern="^0?[0-7]{3}$",
            description="the permissions of the socket, as chmod has them: who may connect "
            "(default: 0600, this user only)",
        ),
    ] = "0600"
    socket_group: Annotated[
        str,
        Meta(
            description="the group of the socket, for --socket-mode 0660 (default: that of this "
            "user)"
        ),
    ] = ""
    admins: Annotated[
        tuple[str, ...],
        Meta(
            description="who may do everything, beside root and this user: uid:NUMBER, user:NAME, "
            "gid:NUMBER or group:NAME, with commas between"
        ),
    ] = ()
    writers: Annotated[
        tuple[str, ...], Meta(description="who may read and write, named in the same way")
    ] = ()
    readers: Annotated[
        tuple[str, ...], Meta(description="who may only read, named in the same way")
    ] = ()
    others: Annotated[
        AnyRole,
        Meta(
            description="what whoever may connect and is not named may do; none: connect in vain "
            "(default: write)"
        ),
    ] = "write"
    unseen_peers: Annotated[
        UnseenPeers,
        Meta(
            description="what becomes of peers outside the daemon's pid namespace, whose death it "
            "cannot notice (default: refuse)"
        ),
    ] = "refuse"
    durability: Annotated[
        Literal["full", "normal"],
        Meta(
            description="full: an acknowledged write survives a power cut; normal: it survives the "
            "end of the daemon only (default: full)"
        ),
    ] = "full"
    search: Annotated[
        Literal["on", "off"],
        Meta(
            description="on: prompts, outputs and error messages are indexed and can be searched; "
            "off: they are not, and what was indexed is dropped (default: on)"
        ),
    ] = "on"
    cache_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="how much memory the states that were read last may take; 0 keeps none "
            f"(default: {DEFAULT_CACHE_BYTES})",
        ),
    ] = DEFAULT_CACHE_BYTES
    prune_attempts_older_than: Annotated[
        str,
        Meta(
            pattern=f"^({_AGE})?$",
            description="remove attempts and failures that are older, such as 30d, by and by; with "
            "a number to keep, only those beyond it (default: none)",
        ),
    ] = ""
    prune_keep_last: Annotated[
        int,
        Meta(
            ge=0,
            description="remove attempts and failures of a sheet beyond the newest so many, by and "
            "by; with an age, only those that are older; 0: none (default: 0)",
        ),
    ] = 0
    prune_max_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="remove the oldest attempts, by and by, until the prompts and outputs of "
            "the others take no more than this; 0: none (default: 0)",
        ),
    ] = 0
    prune_jobs: Annotated[
        tuple[Annotated[str, Meta(pattern=f"^{_PRUNABLE}:{_AGE}$")], ...],
        Meta(
            description="remove whole jobs of a status that were last updated so long ago, by and "
            "by: such as completed:30d,failed:90d (default: none)"
        ),
    ] = ()
    log_format: Annotated[
        Literal["auto", "text", "json", "journal"],
        Meta(
            description="how log lines look; auto: journal, with fields, where standard error is "
            "the journal of systemd, else text (default: auto)"
        ),
    ] = "auto"
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

    @property
    def socket_permissions(self) -> int:
        """Who may connect, as the bits of a mode."""
        return int(self.socket_mode, 8)


RELOADABLE = frozenset(Limits.__struct_fields__) - {"wal_alarm_bytes", "wal_keep_bytes"} | {
    *("admins", "writers", "readers", "others", "unseen_peers", "log_level"),
    *("prune_attempts_older_than", "prune_keep_last", "prune_max_bytes", "prune_jobs"),
}
"""What SIGHUP changes while the daemon runs; the others take a restart."""


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings for a command line and an environment.

    Raises InvalidRequest, naming the flag, the variable or the key, for what is not allowed. Ends
    the process for --help, --version and unknown flags, as argparse does.
    """
    flags = vars(command_line().parse_args(arguments))
    config = (
        flags.pop("config")
        or environment.get(f"{ENVIRONMENT_PREFIX}CONFIG")
        or _config_of_service(environment)
    )
    values: dict[str, Any] = _from_file(Path(config)) if config else {}
    for name in Settings.__struct_fields__:
        variable = f"{ENVIRONMENT_PREFIX}{name.upper()}"
        if flags[name] is not None:
            values[name] = _checked(f"--{name.replace('_', '-')}", name, flags[name])
        elif variable in environment:
            values[name] = _checked(variable, name, environment[variable])
    return Settings(**values)


def wants_check(arguments: Sequence[str]) -> bool:
    """Whether the database is to be checked instead of served."""
    return bool(command_line().parse_args(arguments).check)


def _config_of_service(environment: Mapping[str, str]) -> str | None:
    """The configuration of a service (systemd.exec(5), ConfigurationDirectory), if there is one."""
    directory = environment.get("CONFIGURATION_DIRECTORY")
    if not directory:
        return None
    path = os.path.join(directory.split(":")[0], "jobkeepd.toml")  # noqa: PTH118 # as --config has it
    return path if os.path.lexists(path) else None


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
    annotation = _TYPES[name]
    if isinstance(value, str) and _is_list(name):
        value = [one for one in value.split(",") if one]
    try:
        return msgspec.convert(value, annotation, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{source} is {value!r}; expected {_expected(name)}") from error


def _expected(name: str) -> str:
    """What a setting may be, in words."""
    kind, meta = _kind(name), _meta(name)
    if choices := _choices(name):
        return f"one of {', '.join(choices)}"
    if name == "prune_jobs":
        return f"a status other than running and {_AGE_FORM}, as completed:30d, with commas between"
    if name == "prune_attempts_older_than":
        return f"{_AGE_FORM}, or nothing"
    if kind is str:
        return 'permissions such as "0660"' if meta.pattern else "text"
    if _is_list(name):
        return "names with commas between"
    what = "a whole number of bytes" if "bytes" in name else "a whole number"
    if kind is float:
        what = "a number of seconds"
    if meta.le is not None:
        return f"{what} from {meta.ge} to {meta.le}"
    return f"{what} above 0" if meta.gt is not None else f"{what}, {meta.ge} or more"


def _kind(name: str) -> Any:
    return get_args(_TYPES[name])[0]


def _meta(name: str) -> Meta:
    (meta,) = _TYPES[name].__metadata__
    assert isinstance(meta, Meta), name
    return meta


def _is_list(name: str) -> bool:
    return get_origin(_kind(name)) is tuple


def _choices(name: str) -> list[str]:
    """The values of a setting that has only a few."""
    return [str(one) for one in get_args(_kind(name))] if not _is_list(name) else []


def _metavar(name: str) -> str:
    """How the value of a flag is written in --help."""
    if choices := _choices(name):
        return f"{{{','.join(choices)}}}"
    if _is_list(name):
        return "STATUS:AGE,…" if name == "prune_jobs" else "WHO"
    if _kind(name) is str:
        return _METAVARS.get(name, "PATH")
    return next((unit.upper() for unit in ("bytes", "seconds") if unit in name), "NUMBER")


_METAVARS = {"socket_mode": "MODE", "socket_group": "GROUP", "prune_attempts_older_than": "AGE"}


def _help(name: str) -> str:
    """What a flag is for; a limit's default is told by its value."""
    description = description_of(name).replace("%", "%%")
    return f"{description} (default: {default_of(name):,})" if name in _LIMITS else description


class _Print(argparse.Action):
    """Prints what the flag stands for, and ends the process."""

    def __call__(
        self, parser: argparse.ArgumentParser, _: Any, value: Any, option: str | None = None
    ) -> None:
        from jobkeepd import printing

        try:
            text = printing.text_of(str(option), value)
        except InvalidRequest as error:
            parser.error(str(error))
        print(text, end="")
        parser.exit()


def names_of_settings() -> list[str]:
    """All settings, limits last."""
    return sorted(_TYPES, key=lambda name: name in _LIMITS)


def description_of(name: str) -> str:
    """What a setting is for."""
    return _meta(name).description or ""


def default_of(name: str) -> Any:
    """The value of a setting that nobody has set."""
    return Settings.__struct_defaults__[Settings.__struct_fields__.index(name)]


@cache
def command_line() -> argparse.ArgumentParser:
    """What the command understands. Made once: it takes longer than all that is done with it."""
    parser = argparse.ArgumentParser(
        prog="jobkeepd",
        usage="jobkeepd [OPTION ...]",
        description="Keeps the state of jobs in one SQLite database and serves it on a Unix "
        "socket. Runs in the foreground until SIGTERM or SIGINT.",
        epilog=f"Each option may also be a variable {ENVIRONMENT_PREFIX}… or a key of the "
        "configuration file. Exit status: 0 stopped as asked, 1 failed, 2 wrong arguments, 74 the "
        "database failed, 75 the database or the socket is in use, 70 a defect.",
    )
    parser.add_argument("--version", action="version", version=f"jobkeepd {__version__}")
    parser.add_argument(
        "--print-unit",
        action=_Print,
        metavar="NAME",
        help="print the units of systemd that start this jobkeepd, and exit; NAME is system or "
        "user, or one file of these, such as user/jobkeep.socket",
    )
    parser.add_argument(
        "--print-config",
        action=_Print,
        nargs=0,
        help="print a configuration file with every setting and its default, and exit",
    )
    parser.add_argument("--config", metavar="FILE", help="read settings from this TOML file")
    parser.add_argument(
        "--check",
        action="store_true",
        help="instead of serving, tell all that is wrong with the database, and change nothing; "
        "exit status: 0 nothing is, 1 something is",
    )
    limits = parser.add_argument_group("limits")
    for name in names_of_settings():
        (limits if name in _LIMITS else parser).add_argument(
            f"--{name.replace('_', '-')}", dest=name, metavar=_metavar(name), help=_help(name)
        )
    return parser


_LIMITS = frozenset(Limits.__struct_fields__)
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
