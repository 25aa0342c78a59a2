"""Sensors: clocks, temperatures, power, energy. One file each; a new one is a file and a row."""

from __future__ import annotations

from .base import QUANTITIES, Reading, Sensor
from .jetson import Jetson
from .log import SensorLog, sensors_for
from .nvml import Nvml
from .processor import Processor

__all__ = [
    "QUANTITIES",
    "Jetson",
    "Nvml",
    "Processor",
    "Reading",
    "Sensor",
    "SensorLog",
    "sensors_for",
]
