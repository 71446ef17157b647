"""`python -m jobkeep.cli` is `jobkeep`."""

from jobkeep.cli import main

main()
