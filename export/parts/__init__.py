"""The parts that a model is cut into: tower, projector, decoder layers, rotary angles.

A family makes them of transformers' modules; methods, scores and wrapper modules know a model by
them alone.
"""
