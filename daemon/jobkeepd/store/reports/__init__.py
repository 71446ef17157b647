"""What each report answers.

What lives here: a module for each subject, whose functions are found in `reads.READS`.
What may not: any other read, and writing.

Reports run on a reader's connection, in one snapshot, so they hold up no writer. They read kept
counters and covering indexes: never a row of `execution_history`, whose prompts and outputs come
before all that a report asks for. A row of `jobs` is read for each job, and of `sheets` for the
jobs that were updated since, where a report is asked about a time.
"""

from jobkeepd.store.reports import durations, errors, overview, sheets, timeline

__all__ = ["durations", "errors", "overview", "sheets", "timeline"]
