"""Starts what the engine tests run on: the Esker server, MinIO, and the engines with their jars, kept in the cache."""
