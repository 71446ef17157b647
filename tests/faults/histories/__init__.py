"""What several clients saw of a job at the same time, and whether one order explains it.

What lives here: making such histories (`client`, `run`), what a job is (`model`), and the search
for an order (`linearizability`). What may not: what each promise means by itself (that is in the
contract tests).
"""
