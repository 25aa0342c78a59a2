"""What a user holds: the pipeline, conversations, answers, and a guide beside them.

Everything here ends up in ``docs/python.md``.
"""
