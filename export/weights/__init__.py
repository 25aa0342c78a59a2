"""The one weight file of a bundle: its tensors, their form, and how they stream into it.

Weights pass through here tensor by tensor; nothing may hold a whole model.
"""
