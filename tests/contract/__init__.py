"""What every backend promises, tested against all of them."""
