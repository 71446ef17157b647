"""The protocol: states, values, messages and frames, tested by feeding bytes."""
