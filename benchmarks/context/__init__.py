"""What a window costs under a provider's prompt cache: workloads played through policies. See ../README.md."""
