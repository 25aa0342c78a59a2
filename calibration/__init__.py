"""Calibration on the user's own data: how many tokens to keep, where to drop, when to exit early.

Needs the runtime only; where a model has to be exported first, the ``export`` extra.
"""
