"""Trees of ``/sys`` and ``/proc`` as boards and processors show them, written out for the readers.

The Jetson's follows JetPack 6 on an Orin Nano: NVIDIA's developer guide names the files ("Jetson
Orin Nano Series ... Power and Performance"), the kernel's hwmon documentation their units.
"""

from __future__ import annotations

from pathlib import Path

_MONITOR = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"

JETSON = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, BOARD: generic",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
    "var/lib/nvpmodel/status": "pmode:0002",
    "sys/class/devfreq/17000000.gpu/cur_freq": "1020000000",
    "sys/class/devfreq/other.bus/cur_freq": "1",
    "sys/kernel/debug/bpmp/debug/clk/emc/rate": "3199000000",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "51250",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal",
    "sys/class/thermal/thermal_zone1/temp": "49500",
    "sys/class/thermal/thermal_zone2/type": "cv0-thermal",  # off: no number can be read
    "sys/class/thermal/thermal_zone2/temp": "",
    f"{_MONITOR}/in1_label": "VDD_IN",
    f"{_MONITOR}/in1_input": "5000",
    f"{_MONITOR}/curr1_input": "1500",
    f"{_MONITOR}/in2_label": "VDD_CPU_GPU_CV",
    f"{_MONITOR}/in2_input": "5000",
    f"{_MONITOR}/curr2_input": "600",
    f"{_MONITOR}/in3_label": "VDD_SOC",
    f"{_MONITOR}/in3_input": "5000",
    f"{_MONITOR}/curr3_input": "400",
    f"{_MONITOR}/in7_label": "sum of shunt voltages",
    f"{_MONITOR}/in7_input": "3",
    "sys/class/hwmon/hwmon2/name": "soctherm_oc",
    "sys/class/hwmon/hwmon2/oc1_event_cnt": "1",
    "sys/class/hwmon/hwmon2/oc3_event_cnt": "4",
}

PROCESSOR = {
    "proc/loadavg": "0.50 0.60 0.70 1/234 5678",
    "proc/cpuinfo": "processor\t: 0\ncpu MHz\t\t: 1.0\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "3000000",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "2000000",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "2",
    "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "3",
    "sys/class/hwmon/hwmon0/name": "coretemp",
    "sys/class/hwmon/hwmon0/temp1_input": "61000",
    "sys/class/hwmon/hwmon1/name": "nvme",
    "sys/class/hwmon/hwmon1/temp1_input": "40000",
    "sys/class/powercap/intel-rapl:0/name": "package-0",
    "sys/class/powercap/intel-rapl:0/energy_uj": "5000000",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "9000000",
    "sys/class/powercap/intel-rapl:0:0/name": "core",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "1000000",
}


def plant(root: Path, files: dict[str, str]) -> Path:
    """Write a tree."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n", encoding="utf-8")
    return root
