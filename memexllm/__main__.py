"""`python -m memexllm` is the `memexllm` command."""

from memexllm.cli import main

main()
