"""Model folders as they lie on the hub: names of tensors, shards, configurations, tokenizers and
templates in the form in which each repository was published. One row a repository, in ``table``.

No model hub is in reach of where this is made: the forms were written from public sources, and each
row says from which, and what is taken from memory or inferred.
"""
