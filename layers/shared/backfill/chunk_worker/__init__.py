"""The use case of the chunk_worker function."""
