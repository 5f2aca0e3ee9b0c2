"""Which images form a batch, and which of them form pairs."""
