"""What a command's end means: the rules it keeps, the patterns it shows, the error it made.

What lives here: functions from what was measured to the fields of a sheet. What may not: running
anything, and the daemon.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable

from examples.sample.command import Ended
from examples.sample.kinds import Kind
from jobkeep_protocol.states import SheetState, SheetStatus

Rule = Callable[[Ended], bool]

_ERROR = re.compile(
    r"^(?:Sorry: )?([A-Za-z_.]*(?:Error|Exception|Warning|Exit|Interrupt))\b", re.MULTILINE
)
_MISSING = re.compile(r"No module named '([^']+)'")
_MODULES = re.compile(r"^(\d+) modules are loaded$", re.MULTILINE)


def _prints_json(ended: Ended) -> bool:
    try:
        json.loads(ended.output)
    except ValueError:
        return False
    return True


def _loads_few_modules(ended: Ended) -> bool:
    found = _MODULES.search(ended.output)
    return found is not None and int(found[1]) < 100


_EVERYWHERE: dict[str, Rule] = {
    "exits with 0": lambda ended: ended.exit_code == 0,
    "takes under 100 ms": lambda ended: ended.seconds < 0.1,
}
_QUIET: dict[str, Rule] = {"writes no errors": lambda ended: not ended.errors}
RULES: dict[str, dict[str, Rule]] = {
    "compile": _QUIET,
    "import": {**_QUIET, "loads under 100 modules": _loads_few_modules},
    "measure": {**_QUIET, "prints JSON": _prints_json},
    "doctest": _QUIET,
    "unittest": {"skips no test": lambda ended: "skipped=" not in ended.errors},
    "tokenize": {**_QUIET, "prints under 100 kB": lambda ended: len(ended.output) < 100_000},
    "disassemble": _QUIET,
    "parse": _QUIET,
    "survey": {**_QUIET, "prints JSON": _prints_json},
}
"""The rules of each kind, beside those that all have."""


def judge(kind: Kind, ended: Ended, sheet: SheetState) -> None:
    """Write on a sheet what an attempt at it has shown."""
    sheet.exit_code, sheet.exit_signal = ended.exit_code, ended.exit_signal
    sheet.execution_duration_seconds = ended.seconds
    sheet.outcome_data = {
        "cpu_seconds": round(ended.cpu_seconds, 6),
        "limit_seconds": ended.limit_seconds,
        "output_bytes": len(ended.output.encode()) + len(ended.errors.encode()),
    }
    _check_rules(kind, ended, sheet)
    if ended.exit_code == 0 and not ended.was_stopped:
        sheet.status = SheetStatus.COMPLETED
        sheet.success_without_retry = sheet.attempt_count == 1
        sheet.outcome_category = "clean" if sheet.validation_passed else "with findings"
        sheet.error_message = sheet.error_category = sheet.error_code = sheet.exit_reason = None
    else:
        sheet.status = SheetStatus.FAILED
        _name_error(ended, sheet)
        sheet.outcome_category = sheet.error_category
    learned = {*(sheet.learned_patterns or ()), *_patterns(kind, ended)}
    sheet.learned_patterns = sorted(learned)


def _check_rules(kind: Kind, ended: Ended, sheet: SheetState) -> None:
    """Check each rule; confidence is the share of them that is kept."""
    results = {name: rule(ended) for name, rule in (_EVERYWHERE | RULES[kind.name]).items()}
    sheet.passed_validations = [name for name, is_kept in results.items() if is_kept]
    sheet.failed_validations = [name for name, is_kept in results.items() if not is_kept]
    sheet.validation_passed = not sheet.failed_validations
    sheet.validation_details = [
        {"rule": name, "passed": is_kept} for name, is_kept in results.items()
    ]
    share = len(sheet.passed_validations) / len(results)
    sheet.confidence_score = share
    sheet.last_pass_percentage = 100 * share


def _name_error(ended: Ended, sheet: SheetState) -> None:
    last = next((one for one in reversed(ended.errors.splitlines()) if one.strip()), "")
    if ended.was_stopped:
        sheet.error_category, sheet.error_code = "timeout", "TIMEOUT"
        sheet.exit_reason = f"stopped after {ended.limit_seconds:g} s"
        sheet.error_message = f"not done after {ended.limit_seconds:g} s"
    elif ended.exit_signal is not None:
        name = signal.Signals(ended.exit_signal).name
        sheet.error_category, sheet.error_code = "signal", name
        sheet.exit_reason = sheet.error_message = f"killed by {name}"
    else:
        sheet.error_category = "exit"
        sheet.error_code = _exception(ended) or f"EXIT-{ended.exit_code}"
        sheet.exit_reason = None
        sheet.error_message = last.strip()[:200] or f"exit code {ended.exit_code}"


def _exception(ended: Ended) -> str | None:
    """The exception of the last traceback."""
    found: list[str] = _ERROR.findall(ended.errors)
    return found[-1] if found else None


def _patterns(kind: Kind, ended: Ended) -> set[str]:
    """What the behaviour of a command shows, in words that can be counted."""
    found = set()
    if ended.was_stopped:
        found.add(f"{kind.name}-outlives-{ended.limit_seconds:g}s")
    if (missing := _MISSING.search(ended.errors)) is not None:
        found.add(f"needs-module-{missing[1]}")
    if "DeprecationWarning" in ended.errors:
        found.add("warns-deprecated")
    if ended.exit_code and (exception := _exception(ended)) is not None:
        found.add(f"raises-{exception}")
    if len(ended.output) > 100_000:
        found.add("prints-over-100kB")
    if ended.seconds > 2 * ended.cpu_seconds:
        found.add("waits-for-processor")
    return found
