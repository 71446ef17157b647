"""What the client and the daemon of jobkeep share: states, errors, messages and frames.

No I/O and no asyncio: bytes in, messages out. Applications import `jobkeep`; this package is for
the two sides, and for whoever writes another client.
"""
