"""Histories of tables: made by seed, carried out by real writers, and read by several engines after each step."""
