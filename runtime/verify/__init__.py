"""The golden sample replayed on an engine, graph by graph.

Tolerances come from the manifest and are never widened here.
"""
