"""The processor and its package: ``/proc`` and ``/sys`` of Linux."""

from __future__ import annotations

from typing import ClassVar

from ...files.system_files import number_of, text_of
from .base import Reading, Sensor, paths, thermal_zones

_CPU = "sys/devices/system/cpu"
_HOT = ("coretemp", "k10temp", "zenpower")


class Processor(Sensor):
    """Clock, governor, temperature, throttling, load, and RAPL's energy where it may be read."""

    name: ClassVar[str] = "processor"

    def absent(self) -> str | None:
        return None if self.read() else "neither /proc nor /sys has information about the processor"

    def read(self) -> list[Reading]:
        found = [*self._clock(), *self._governor(), *self._temperatures(), *self._throttling()]
        load = text_of(self.root / "proc/loadavg")
        if load is not None:
            number = float(load.split()[0])
            found.append(Reading(quantity="load", name="1 minute", value=number, unit="tasks"))
        return [*found, *self._energy()]

    def _clock(self) -> list[Reading]:
        files = paths(self.root, f"{_CPU}/cpu[0-9]*/cpufreq/scaling_cur_freq")
        megahertz = [value / 1e3 for file in files if (value := number_of(file)) is not None]
        if not megahertz:
            lines = (text_of(self.root / "proc/cpuinfo") or "").splitlines()
            pairs = (line.partition(":") for line in lines)
            megahertz = [float(value) for key, _, value in pairs if key.strip() == "cpu MHz"]
        if not megahertz:
            return []
        mean = sum(megahertz) / len(megahertz)
        return [Reading(quantity="clock", name="CPU, mean of the cores", value=mean, unit="MHz")]

    def _governor(self) -> list[Reading]:
        files = paths(self.root, f"{_CPU}/cpu[0-9]*/cpufreq/scaling_governor")
        words = sorted({word for file in files if (word := text_of(file)) is not None})
        if not words:
            return []
        return [
            Reading(quantity="power mode", name="CPU governor", value=", ".join(words), unit="")
        ]

    def _temperatures(self) -> list[Reading]:
        found = thermal_zones(self.root)
        for chip in paths(self.root, "sys/class/hwmon/hwmon*"):
            kind, value = text_of(chip / "name"), number_of(chip / "temp1_input")
            if kind in _HOT and value is not None:
                found.append(
                    Reading(quantity="temperature", name=str(kind), value=value / 1e3, unit="°C")
                )
        return found

    def _throttling(self) -> list[Reading]:
        files = paths(self.root, f"{_CPU}/cpu[0-9]*/thermal_throttle/core_throttle_count")
        counts = [value for file in files if (value := number_of(file)) is not None]
        if not counts:
            return []
        total = sum(counts)
        return [Reading(quantity="throttling", name="CPU cores", value=total, unit="events")]

    def _energy(self) -> list[Reading]:
        found = []
        # Zones such as intel-rapl:0:1 are parts of intel-rapl:0.
        for zone in paths(self.root, "sys/class/powercap/*rapl:[0-9]*"):
            value = number_of(zone / "energy_uj")
            if zone.name.count(":") > 1 or value is None:
                continue
            most = number_of(zone / "max_energy_range_uj")
            found.append(
                Reading(
                    quantity="energy",
                    name=f"RAPL {text_of(zone / 'name') or zone.name}",
                    value=value / 1e6,
                    unit="J",
                    whole=True,
                    wraps=None if most is None else most / 1e6,
                )
            )
        return found
