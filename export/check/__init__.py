"""What proves an export: PyTorch's answers to the golden sample, and ways to have them in memory.

It may run everything that the exporter made, and changes nothing but the golden files.
"""
