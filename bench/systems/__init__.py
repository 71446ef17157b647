"""The systems that are compared, a module each.

What lives here: the table of them. A module has a `SYSTEM`; to compare another system is to write
its module and to name it here.
"""

from bench.systems import jobkeep, plain, postgres, postgres_tuned, redis, redis_tuned

NATURAL = (jobkeep.SYSTEM, plain.SYSTEM, redis.SYSTEM, postgres.SYSTEM)
"""Each as somebody would write a state backend for it. The budgets are about these."""

TUNED = (redis_tuned.SYSTEM, postgres_tuned.SYSTEM)
"""With the fewest and smallest requests: what is left when nothing more can be saved."""

SYSTEMS = (*NATURAL, *TUNED)
