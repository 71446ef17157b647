"""From samples and keys to the screen, until it is over.

What lives here: the loop. What may not: what a sample, a key or a signal does (those are `model`
and `terminal`).
"""

from __future__ import annotations

import time

from jobkeep.cli.top.model import Top
from jobkeep.cli.top.sampler import Sampler
from jobkeep.cli.top.screen import screen
from jobkeep.cli.top.terminal import Terminal

TICK_SECONDS = 1.0
"""How often the screen is drawn when nothing happens, for what it says about time."""


def run(top: Top, sampler: Sampler, terminal: Terminal) -> int | None:
    """Show what is sampled and do what is typed, to the end; gives the signal that ended it."""
    while not top.has_quit:
        terminal.draw(screen(top, time.monotonic(), *terminal.size))
        sampler.want(top.wanted)
        events = terminal.wait(TICK_SECONDS, sampler.ready)
        if events.ending is not None:
            return events.ending
        if sampler.ready in events.ready:
            for sample in sampler.collect():
                top.take(sample)
        for key in events.keys:
            top.press(key)
    return None
