"""What memexllm costs over the floor below it, measured in pairs in the same run. How to run them: README.md."""
