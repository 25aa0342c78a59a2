"""A Jetson board, from sysfs. Tested over recorded trees; not yet run on a board.

Power comes from the INA3221 monitors: ``in1_label`` names a rail, ``in1_input`` is its voltage in
millivolts, ``curr1_input`` its current in milliamperes.
"""

from __future__ import annotations

import re
from typing import ClassVar

from ...files.system_files import number_of, text_of
from .base import Reading, Sensor, paths

_TOTAL = ("VDD_IN", "POM_5V_IN", "VDD_5V_IN")
"""Rails that feed the whole module, on boards that measure one."""
_MONITORS = "sys/bus/i2c/drivers/ina3221*/*/hwmon/hwmon*"
_EMC = (
    "sys/kernel/debug/bpmp/debug/clk/emc/rate",
    "sys/kernel/debug/clk/emc/clk_rate",
)
_GPU = ("gpu", "ga10b", "gv11b", "gp10b", "gb10b")
"""What names of the GPU's clock end in, by generation."""


class Jetson(Sensor):
    """Clocks of GPU and memory, rails, power mode, over-current events; ``Processor`` reads the
    thermal zones, which are the kernel's own."""

    name: ClassVar[str] = "jetson"

    def absent(self) -> str | None:
        if (self.root / "etc/nv_tegra_release").exists():
            return None
        kind = text_of(self.root / "proc/device-tree/compatible") or ""
        return None if "nvidia,tegra" in kind else "this is not a Jetson board"

    def read(self) -> list[Reading]:
        return [
            *self._clocks(),
            *self._power(),
            *self._mode(),
            *self._throttling(),
        ]

    def _clocks(self) -> list[Reading]:
        found = []
        for folder in paths(self.root, "sys/class/devfreq/*"):
            hertz = number_of(folder / "cur_freq")
            if folder.name.rpartition(".")[2] in _GPU and hertz is not None:
                found.append(Reading(quantity="clock", name="GPU", value=hertz / 1e6, unit="MHz"))
                break
        for place in _EMC:
            hertz = number_of(self.root / place)
            if hertz is not None:
                found.append(
                    Reading(quantity="clock", name="memory (EMC)", value=hertz / 1e6, unit="MHz")
                )
                break
        return found

    def _power(self) -> list[Reading]:
        rails: dict[str, float] = {}
        for monitor in paths(self.root, _MONITORS):
            for label in paths(monitor, "in*_label"):
                number = label.name.removeprefix("in").removesuffix("_label")
                name = text_of(label)
                volts = number_of(monitor / f"in{number}_input")
                amperes = number_of(monitor / f"curr{number}_input")
                if name is not None and volts is not None and amperes is not None:
                    rails[name] = volts * amperes / 1e6
        whole = [name for name in rails if name in _TOTAL]
        return [
            Reading(
                quantity="power",
                name=name,
                value=watts,
                unit="W",
                # Without a rail for all of the module, its rails add up to it.
                whole=name in whole if whole else True,
            )
            for name, watts in rails.items()
        ]

    def _mode(self) -> list[Reading]:
        status = text_of(self.root / "var/lib/nvpmodel/status") or ""
        found = re.search(r"pmode:0*(\d+)", status)
        if found is None:
            return []
        number, name = found[1], f"mode {found[1]}"
        settings = text_of(self.root / "etc/nvpmodel.conf") or ""
        for named in re.finditer(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", settings):
            if named[1] == number:
                name = f"{named[2]} (mode {number})"
        return [Reading(quantity="power mode", name="nvpmodel", value=name, unit="")]

    def _throttling(self) -> list[Reading]:
        found = []
        for chip in paths(self.root, "sys/class/hwmon/hwmon*"):
            if text_of(chip / "name") != "soctherm_oc":
                continue
            files = paths(chip, "oc*_event_cnt")
            counts = [count for file in files if (count := number_of(file)) is not None]
            if counts:
                total = sum(counts)
                found.append(
                    Reading(quantity="throttling", name="over-current", value=total, unit="events")
                )
        return found
