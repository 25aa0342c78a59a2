"""The wrapper modules, one for each kind of graph: traced, and run as they are by the check.

They wrap what transformers provides, and never copy it; what differs between families is asked of
``families``, what differs between targets is left to ``targets``.
"""
