"""A sample database: real executions, a few thousand of them, to ask questions of.

    python -m examples.sample DIRECTORY

starts a daemon on `DIRECTORY/state.db` and has several worker processes check Python's own standard
library: compile its files, import its modules, run its doctests and its tests, each under a time
limit. Nothing is invented: each prompt is a command that was run, each output what it printed, and
exit codes, signals, times and durations are those of the process. docs/queries.md asks the
questions.
"""
