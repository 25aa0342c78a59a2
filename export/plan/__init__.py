"""What will be exported: names, options and configuration put together, before any weight is there.

Whatever cannot be exported is refused here. A new option of ``vtp export`` starts here.
"""
