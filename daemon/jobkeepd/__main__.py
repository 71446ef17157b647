"""`python -m jobkeepd` is `jobkeepd`."""

from jobkeepd.main import main

main()
