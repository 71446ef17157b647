"""The systems that are compared, a module each.

What lives here: the table of them. A module has a `SYSTEM`; to compare another system is to write
its module and to name it here.
"""

from bench.systems import jobkeep, plain

SYSTEMS = (jobkeep.SYSTEM, plain.SYSTEM)
