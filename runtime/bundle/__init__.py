"""What a bundle is: its manifest, the plan in it, and the files that it names, read strictly.

This is the contract between export and runtime: a change here is a change of the schema.
"""
