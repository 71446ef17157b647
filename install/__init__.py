"""What `make install` makes beside the packages themselves."""
