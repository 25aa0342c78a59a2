"""The readers over recorded trees: units, names, and what is absent stays absent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from vtp.runtime.profile.energy import energy_per_request, risen
from vtp.runtime.profile.memory import peak_host_bytes, system_bytes_used
from vtp.runtime.profile.sensors import Jetson, Nvml, Processor, Reading, Sensor, SensorLog, nvml

from .trees import JETSON, PROCESSOR, plant


def told(sensor: Sensor) -> dict[tuple[str, str], float | str]:
    return {(r.quantity, r.name): r.value for r in sensor.read()}


def test_a_board(tmp_path: Path) -> None:
    sensor = Jetson(plant(tmp_path, JETSON))
    assert sensor.absent() is None
    assert told(sensor) == {
        ("clock", "GPU"): 1020.0,
        ("clock", "memory (EMC)"): 3199.0,
        ("power", "VDD_IN"): 7.5,
        ("power", "VDD_CPU_GPU_CV"): 3.0,
        ("power", "VDD_SOC"): 2.0,
        ("power mode", "nvpmodel"): "MAXN_SUPER (mode 2)",
        ("throttling", "over-current"): 5.0,
    }
    units = {r.quantity: r.unit for r in sensor.read()}
    assert units == {"clock": "MHz", "power": "W", "power mode": "", "throttling": "events"}
    assert [r.name for r in sensor.read() if r.whole] == ["VDD_IN"]


def test_a_board_without_a_rail_for_all(tmp_path: Path) -> None:
    """An AGX Orin: its rails add up to the module."""
    tree = {name: text.replace("VDD_IN", "VDD_GPU_SOC") for name, text in JETSON.items()}
    rails = [r for r in Jetson(plant(tmp_path, tree)).read() if r.quantity == "power"]
    assert sum(float(r.value) for r in rails if r.whole) == pytest.approx(12.5)


def test_a_processor(tmp_path: Path) -> None:
    sensor = Processor(plant(tmp_path, PROCESSOR))
    assert told(sensor) == {
        ("clock", "CPU, mean of the cores"): 2500.0,
        ("power mode", "CPU governor"): "powersave",
        ("temperature", "coretemp"): 61.0,
        ("throttling", "CPU cores"): 5.0,
        ("load", "1 minute"): 0.5,
        ("energy", "RAPL package-0"): 5.0,
    }


def test_the_thermal_zones_of_a_board(tmp_path: Path) -> None:
    found = told(Processor(plant(tmp_path, JETSON)))
    assert found == {
        ("temperature", "cpu-thermal"): 51.25,
        ("temperature", "gpu-thermal"): 49.5,
    }


def test_what_is_not_there_is_absent_and_not_zero(tmp_path: Path) -> None:
    assert Processor(tmp_path).absent() is not None
    assert Jetson(tmp_path).absent() == "this is not a Jetson board"
    log = SensorLog([Processor(tmp_path), Jetson(tmp_path)])
    log.read()
    assert log.summary() == []
    assert log.meters() == []
    assert set(log.missing()) == {
        "clock",
        "temperature",
        "power",
        "energy",
        "power mode",
        "throttling",
        "load",
    }
    assert "this is not a Jetson board" in log.missing()["clock"]
    assert peak_host_bytes(tmp_path) is None
    assert system_bytes_used(tmp_path) is None


@pytest.mark.parametrize("name", [name for name in JETSON if "etc/nv" not in name])
def test_a_file_that_cannot_be_read_costs_its_own_reading_only(tmp_path: Path, name: str) -> None:
    tree = {other: text for other, text in JETSON.items() if other != name}
    sensors = [Jetson(plant(tmp_path, tree)), Processor(tmp_path)]
    assert sensors[0].absent() is None
    values = [r.value for sensor in sensors for r in sensor.read()]
    assert len(values) >= 7
    assert 0.0 not in values


def test_the_run_is_summed_up(tmp_path: Path) -> None:
    log = SensorLog([Processor(plant(tmp_path, PROCESSOR))])
    log.read()
    plant(
        tmp_path,
        {
            "sys/class/hwmon/hwmon0/temp1_input": "71000",
            "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "9",
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "performance",
        },
    )
    log.read()
    rows = {row["name"]: row for row in log.summary()}
    assert rows["coretemp"] | {"min": 61.0, "avg": 66.0, "max": 71.0} == rows["coretemp"]
    assert rows["CPU cores"]["rose"] == 7.0
    assert rows["CPU governor"]["said"] == ["powersave", "performance, powersave"]
    assert not any("energy" in row["quantity"] for row in rows.values())
    # Energy tells power too.
    assert set(log.missing()) == set()


def test_energy_from_a_counter(tmp_path: Path) -> None:
    """Two joules a request, over a counter that wraps at nine."""
    sensor, used = Processor(plant(tmp_path, PROCESSOR)), [5.0]

    def ask() -> None:
        used[0] += 2.0
        text = str(int(used[0] % 9 * 1e6))
        plant(tmp_path, {"sys/class/powercap/intel-rapl:0/energy_uj": text})

    (row,) = energy_per_request(ask, [sensor], window_s=0.0)
    assert row["joules"] == pytest.approx(2.0)
    assert (row["source"], row["requests"]) == ("RAPL package-0", 3)


def test_energy_from_power(tmp_path: Path) -> None:
    """A board that draws 7.5 W, asked for a while."""
    sensor = Jetson(plant(tmp_path, JETSON))
    asked: list[int] = []
    (row,) = energy_per_request(lambda: asked.append(1), [sensor], window_s=0.1)
    assert row["watts"] == pytest.approx(7.5)
    assert row["source"] == "VDD_IN"
    assert row["requests"] == len(asked)
    assert row["joules"] * len(asked) == pytest.approx(0.75, rel=0.5)


def test_a_counter_goes_around_once() -> None:
    def at(value: float) -> Reading:
        return Reading(quantity="energy", name="x", value=value, unit="J", wraps=10.0)

    assert risen(at(2.0), at(5.0)) == 3.0
    assert risen(at(8.0), at(1.0)) == 3.0


def test_nvml_says_why_it_is_absent() -> None:
    sensor = Nvml()
    reason = sensor.absent()
    if reason is None:
        pytest.skip("there is a card: its numbers are checked by make gpu-check")
    assert "NVML reports" in reason or "pip install 'vtp-toolkit[sensors]'" in reason
    assert sensor.read() == []


class Card:
    """``pynvml`` with one card, in the driver's units: milliwatts, millijoules, bits."""

    def __init__(self) -> None:
        import pynvml

        self.real = pynvml

    def __getattr__(self, name: str) -> Any:
        answers = {
            "nvmlInit": lambda: None,
            "nvmlDeviceGetHandleByPciBusId": lambda bus: bus,
            "nvmlDeviceGetClockInfo": lambda _, kind: (
                1980 if kind == self.real.NVML_CLOCK_SM else 3201
            ),
            "nvmlDeviceGetTemperature": lambda *_: 41,
            "nvmlDeviceGetPowerUsage": lambda _: 123_400,
            "nvmlDeviceGetTotalEnergyConsumption": lambda _: 5_600_000,
            "nvmlDeviceGetPerformanceState": lambda _: 0,
            "nvmlDeviceGetEnforcedPowerLimit": self._unsupported,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _: (
                self.real.nvmlClocksThrottleReasonSwPowerCap
                | self.real.nvmlClocksThrottleReasonGpuIdle
            ),
        }
        if name not in answers:
            return getattr(self.real, name)
        assert hasattr(self.real, name), f"pynvml has no {name}"
        return answers[name]

    def _unsupported(self, card: object) -> int:
        raise self.real.NVMLError(self.real.NVML_ERROR_NOT_SUPPORTED)


def test_a_card_in_the_units_of_a_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    monkeypatch.setitem(sys.modules, "pynvml", Card())
    monkeypatch.setattr(nvml, "find_spec", lambda name: name)
    sensor = Nvml(bus_id="0000:01:00.0")
    assert sensor.absent() is None
    assert told(sensor) == {
        ("clock", "GPU"): 1980.0,
        ("clock", "GPU memory"): 3201.0,
        ("temperature", "GPU"): 41.0,
        ("power", "GPU"): 123.4,
        ("energy", "GPU"): 5600.0,
        ("power mode", "performance state"): "P0",
        ("throttling", "GPU"): "power cap",
    }
    log = SensorLog([sensor])
    log.read()
    assert set(log.missing()) == {"load"}
