"""``vtp doctor``, and what it reads of a machine."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vtp.export.source.footprint import footprint
from vtp.runtime.engines import ENGINES
from vtp.runtime.machine.machine import PACKAGES, Card, read_machine

ORIN = {
    "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, "
    "EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\nprocessor\t: 1\n",
    "proc/meminfo": "MemTotal:        7802728 kB\nMemFree:  900 kB\nMemAvailable:    6023164 kB\n",
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  "
    "540.4.0  Release Build\nGCC version:  collect2\n",
}
"""Files as such a board has them."""


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_board_is_read_from_its_files(tmp_path: Path) -> None:
    machine = read_machine(tmp_path, tree(tmp_path / "root", ORIN))
    assert machine.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert machine.jetpack == "R36.4.3"
    assert machine.driver == "540.4.0"
    assert machine.processor == "ARMv8 Processor rev 1 (v8l)"
    assert (machine.memory, machine.available) == (7802728 * 1024, 6023164 * 1024)
    assert machine.system.startswith("Ubuntu 22.04.5 LTS, kernel ")


def test_what_cannot_be_read_is_absent_and_not_zero(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    machine = read_machine(tmp_path / "not" / "there", tmp_path / "empty")
    assert machine.board is machine.jetpack is machine.driver is machine.processor is None
    assert machine.memory is machine.available is None
    assert machine.disk > 0
    damaged = {"etc/nv_tegra_release": "# R36 (release), REVISION:", "proc/meminfo": "MemTotal: x"}
    machine = read_machine(tmp_path, tree(tmp_path / "damaged", damaged))
    assert machine.jetpack is machine.memory is None


def test_a_model_has_the_cards_memory_or_what_it_shares(tmp_path: Path) -> None:
    machine = read_machine(tmp_path, tree(tmp_path / "root", ORIN))
    own = Card(name="GeForce RTX 4070", capability="8.9", memory=12 * 10**9, unified=False)
    assert replace(machine, card=None).room == machine.available
    assert replace(machine, card=own).room == 12 * 10**9
    assert replace(machine, card=replace(own, unified=True)).room == machine.available


def test_this_machine_is_read_as_the_system_says(tmp_path: Path) -> None:
    machine = read_machine(tmp_path)
    assert machine.memory == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert machine.cores == len(os.sched_getaffinity(0))
    assert machine.architecture == platform.machine()


def test_doctor_tells_all_engines_packages_and_models(vtp: Any) -> None:
    told = json.loads(vtp("doctor", "--memory", "8", "--format", "json").out)
    assert [row["engine"] for row in told["engines"]] == list(ENGINES)
    reasons = {row["engine"]: row["reason, and what to do"] for row in told["engines"]}
    assert reasons["cpu"] is None
    assert "pip install" in reasons["cuda"]
    sensors = {row["sensor"]: row for row in told["sensors"]}
    assert set(sensors) == {"processor", "jetson", "nvml"}
    assert "load" in sensors["processor"]["measures"]
    assert sensors["jetson"]["measures"] == []
    assert "not a Jetson" in sensors["jetson"]["reason if nothing"]
    packages = {row["package"]: row for row in told["packages"]}
    assert set(packages) == set(PACKAGES)
    assert packages["torch"]["install"] is None
    assert "vtp-toolkit[gpu]" in packages["onnxruntime-gpu"]["install"]
    models = {row["preset"]: row for row in told["models"]}
    llava = footprint("llava", "7b")
    assert models["llava15"]["int4"]["bytes at keep 0.1"] == llava.needs("int4", 0.1)
    assert models["llava15"]["int4"]["largest keep"] == 1.0
    assert models["llava15"]["float16"]["largest keep"] is None


@pytest.mark.parametrize("form", ["table", "md", "csv"])
def test_doctor_for_people(vtp: Any, form: str) -> None:
    shown = vtp("doctor", "--memory", "16.2", "--format", form).out
    assert "what fits into 16.2 GB" in shown
    assert "GB: up to keep" in shown
    assert "GB: fits" in shown
    assert "GB: no" in shown
