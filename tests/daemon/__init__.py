"""The store and the daemon from inside: real files, real sockets, real processes, real kills."""
