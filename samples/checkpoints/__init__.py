"""Checkpoints of random weights, of any family and size: what ``make_checkpoint`` writes."""
