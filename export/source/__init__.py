"""What a model folder, or the hub, holds: which files, which tensors, what its settings ask for.

Read-only, and knows no family and no graph: a new layout on disk, or a new rule for choosing files,
belongs here.
"""
