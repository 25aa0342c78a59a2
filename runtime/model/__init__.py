"""A model at work: tokens, vision graph, decoder, KV cache, sampling.

One request at a time, on any engine; what a conversation is, ``chat`` knows.
"""
