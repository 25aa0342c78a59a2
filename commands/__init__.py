"""The commands of ``vtp``, one file each; the table is in ``vtp.cli``."""
