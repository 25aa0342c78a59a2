"""Benchmarks: this runtime against Hugging Face transformers on one machine, see ``compare``."""
