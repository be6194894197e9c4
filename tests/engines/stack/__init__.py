"""Starts the programs of the engine tests: the Esker server, MinIO, and the engines with their jars in the cache."""
