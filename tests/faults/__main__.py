"""Repeats one lot: `python -m tests.faults 3/120/4`."""

import sys

from tests.faults.power_cut import PowerCuts

if __name__ == "__main__":
    lot = sys.argv[1]
    cuts = PowerCuts(only=lot)
    cuts.run(int(lot.partition("/")[0]))
    print(f"{lot}: the promise is kept ({cuts.first + cuts.again} disks)")
