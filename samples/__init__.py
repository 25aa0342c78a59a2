"""A tiny trained LLaVA to try the toolkit with, and the scripts that made it."""
