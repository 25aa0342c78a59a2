"""Where the time of a bundle goes on this device, and what pruning can gain here."""

from __future__ import annotations

from .document import document
from .profile import Profile, profile
from .trace import trace
from .workload import Workload, make_workload

__all__ = ["Profile", "Workload", "document", "make_workload", "profile", "trace"]
