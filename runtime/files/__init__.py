"""Files of all kinds, read without heavy packages: one strict reader, one safetensors reader.

It knows nothing of bundles.
"""
