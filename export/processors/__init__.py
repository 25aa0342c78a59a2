"""The settings files of Hugging Face's image and video processors, read into the runtime's own.

One file for each kind of preprocessing; what the runtime does with the settings is its business.
"""
