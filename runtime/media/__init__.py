"""Pictures and videos as users have them: read within limits, and drawn over.

What a model wants of them is the business of ``preprocessing``.
"""
