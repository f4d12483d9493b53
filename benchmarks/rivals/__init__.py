"""make bench-rivals: the tools that people read pull requests with, and the product, on the same simulated repository."""
