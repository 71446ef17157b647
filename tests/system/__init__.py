"""The service as it is installed, under a real systemd that is booted in a container."""
