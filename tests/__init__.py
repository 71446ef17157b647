"""The tests of jobkeep: a folder for each package, and one for what all backends promise."""
