"""What the sensors said over a run, and which of them are absent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...engines.device import Device
from .base import QUANTITIES, Reading, Sensor
from .jetson import Jetson
from .nvml import Nvml
from .processor import Processor


def sensors_for(device: Device | None) -> list[Sensor]:
    """The sensors of this machine that matter for a device; None is the processor."""
    found: list[Sensor] = [Processor(), Jetson()]
    if device is not None and not device.unified:
        found.append(Nvml(bus_id=device.bus_id()))
    return found


class SensorLog:
    """Readings between the rounds.

    Args:
        sensors: what to read; those that are absent are noted with the reason.
    """

    def __init__(self, sensors: Sequence[Sensor]) -> None:
        self.absent = {s.name: why for s in sensors if (why := s.absent()) is not None}
        """Name of a sensor -> why it cannot be read."""
        self._sensors = [sensor for sensor in sensors if sensor.name not in self.absent]
        self._seen: dict[tuple[str, str, str, str], list[Reading]] = {}

    def read(self) -> None:
        """Read everything once."""
        for sensor in self._sensors:
            for reading in sensor.read():
                key = (sensor.name, reading.quantity, reading.name, reading.unit)
                self._seen.setdefault(key, []).append(reading)

    def meters(self) -> list[Sensor]:
        """Sensors that know power or energy."""
        known = {key[0] for key in self._seen if key[1] in ("power", "energy")}
        return [sensor for sensor in self._sensors if sensor.name in known]

    def summary(self) -> list[dict[str, Any]]:
        """A row for each thing read: least, mean and most over the run; of counters what they rose
        by; of words all that were said. Energy stands with the requests."""
        rows = []
        for (sensor, quantity, name, unit), readings in self._seen.items():
            if quantity == "energy":
                continue
            row: dict[str, Any] = {"quantity": quantity, "name": name, "sensor": sensor}
            values = [r.value for r in readings if not isinstance(r.value, str)]
            if len(values) < len(readings):
                words = dict.fromkeys(str(reading.value) for reading in readings)
                row |= {"unit": "", "said": list(words)}
            elif unit == "events":
                row |= {"unit": unit, "rose": values[-1] - values[0]}
            else:
                mean = sum(values) / len(values)
                row |= {"unit": unit, "min": min(values), "avg": mean, "max": max(values)}
            rows.append(row)
        return rows

    def missing(self) -> dict[str, str]:
        """Quantities that nothing here tells, with the reason."""
        told = {key[1] for key in self._seen}
        if "energy" not in told and "power" in told:
            told.add("energy")  # power over time
        if "power" not in told and "energy" in told:
            told.add("power")
        absent = "; ".join(f"{name}: {why}" for name, why in self.absent.items())
        reason = "no sensor here measures it" + (f" ({absent})" if absent else "")
        return {quantity: reason for quantity in QUANTITIES if quantity not in told}
