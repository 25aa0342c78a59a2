"""What a user holds: the pipeline, conversations, requests, answers, and a guide beside them.

``docs/python.md`` shows all of it.
"""
