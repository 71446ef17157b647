"""Bytes that nobody who means well would send, to the decoder, to a session and to a live daemon.

`dialects` says how messages lie in a stream, `mutations` spoils them, `conversations` has those
that are spoilt, `checks` says what must hold of any bytes. The tests run a few seconds in
`make test`; `make fuzz` (`__main__`) runs them, and the coverage-guided `targets`, for as long as
FUZZ_SECONDS says.
"""
