"""A client written from docs/protocol.md alone, with nothing but Python's standard library.

It is what somebody makes who has the page and another language: no module here may import anything
of the project, or of any other package. ``tests/daemon/test_plain_client.py`` runs it where nothing
else can be imported, so that what the page leaves out shows.
"""
