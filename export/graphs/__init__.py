"""From a wrapper module to a finished graph file: traced once, lowered for each target.

No method, family or target is named here.
"""
