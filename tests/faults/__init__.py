"""What happens when things fail: killed, cut off, full, broken, or lied to."""
