"""A power cut, replayed from a trace at every point: what is on the disk then, and what is lost.

A kill -9 does not show a missing sync, since what a dead process has written stays in the page
cache. So a real daemon is traced under load, over several starts, and the trace is replayed:

- `trace` runs a command under strace and reads what it did: changes of files and directories,
  syncs, and what was sent to clients.
- `disk` is a model of a disk behind a page cache. It takes these events, and lays out the files as
  they are after a cut; `fates` are the choices of what of the unsynced is left then.
- `load` is the clients: what they write, and how far along each of them a database is.
- `lives` starts and ends the daemon: killed between a write to the log and its sync, with a disk
  that fails, stopped.
- `replay` cuts the power at the points of a trace, opens what is left as the daemon does, and finds
  what was acknowledged and is not there.

What a point is: a moment between two events, and one choice of what of the unsynced survives it. A
write counts as acknowledged from the moment its reply is handed to the kernel.

The model of the disk takes away all that POSIX does not promise:

- What was written and not synced survives or not in sectors of 512 bytes, in any order; a sector
  has what it held after some write since the last sync. A file that grew may have anything where a
  write was lost. Setting the size of a file is such a change too.
- A name that was made, removed or changed is on disk after a sync of its directory, and not before:
  not, as with ext4, after a sync of the file.
- A sync covers what was written before it began, and counts once it has returned without an error,
  for the writes of all processes.
- After a sync of a file that failed, the kernel takes what it could not write for written.
  Processes go on reading it, and it reaches the disk only if it is written again
  (https://lwn.net/Articles/752063/, "PostgreSQL's fsync() surprise").
- The -shm of SQLite never is on the disk: it is memory that processes share.
"""
