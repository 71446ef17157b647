"""The command line, run as the processes it is made of."""
