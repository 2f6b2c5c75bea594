"""Other libraries, run from their packages: `parent` here, the rest in environments of their own (`scripts/peers`)."""
