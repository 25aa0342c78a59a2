"""An NVIDIA card, through NVML (``nvidia-ml-py``). Not yet run on a card."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from .base import Reading, Sensor

_INSTALL = "pip install 'vtp-toolkit[sensors]'"
_REASONS = {
    "power cap": "nvmlClocksThrottleReasonSwPowerCap",
    "slowed by hardware": "nvmlClocksThrottleReasonHwSlowdown",
    "hot (software)": "nvmlClocksThrottleReasonSwThermalSlowdown",
    "hot (hardware)": "nvmlClocksThrottleReasonHwThermalSlowdown",
    "power brake": "nvmlClocksThrottleReasonHwPowerBrakeSlowdown",
}


class Nvml(Sensor):
    """Clocks, temperature, power, energy, performance state and throttling of one card.

    Args:
        root: unused; NVML asks the driver.
        bus_id: PCI bus id of the card; None takes the first.
    """

    name: ClassVar[str] = "nvml"

    def __init__(self, root: Path = Path("/"), bus_id: str | None = None) -> None:
        super().__init__(root)
        self._nvml: Any = None
        self._reason: str | None = None
        if find_spec("pynvml") is None:
            self._reason = f"the module pynvml is not installed: {_INSTALL}"
            return
        import pynvml

        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            self._reason = f"NVML reports: {error}"
            return
        self._nvml = pynvml
        try:
            self._card = (
                pynvml.nvmlDeviceGetHandleByIndex(0)
                if bus_id is None
                else pynvml.nvmlDeviceGetHandleByPciBusId(bus_id.encode())
            )
        except pynvml.NVMLError as error:
            self._reason = f"NVML reports: {error}"

    def absent(self) -> str | None:
        return self._reason

    def read(self) -> list[Reading]:
        if self._reason is not None:
            return []
        nvml, card = self._nvml, self._card
        asked: list[tuple[str, str, str, Callable[[], float | str]]] = [
            ("clock", "GPU", "MHz", lambda: nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM)),
            (
                "clock",
                "GPU memory",
                "MHz",
                lambda: nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_MEM),
            ),
            (
                "temperature",
                "GPU",
                "°C",
                lambda: nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU),
            ),
            ("power", "GPU", "W", lambda: nvml.nvmlDeviceGetPowerUsage(card) / 1e3),
            ("energy", "GPU", "J", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1e3),
            (
                "power mode",
                "performance state",
                "",
                lambda: f"P{nvml.nvmlDeviceGetPerformanceState(card)}",
            ),
            (
                "power mode",
                "power limit",
                "W",
                lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(card) / 1e3,
            ),
            ("throttling", "GPU", "", self._throttling),
        ]
        found = []
        for quantity, name, unit, ask in asked:
            try:
                value = ask()
            except nvml.NVMLError:  # this card does not tell
                continue
            found.append(
                Reading(
                    quantity=quantity,
                    name=name,
                    value=value if isinstance(value, str) else float(value),
                    unit=unit,
                    whole=quantity in ("power", "energy"),
                )
            )
        return found

    def _throttling(self) -> str:
        bits = self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._card)
        found = [name for name, key in _REASONS.items() if bits & getattr(self._nvml, key)]
        return ", ".join(found) or "none"
