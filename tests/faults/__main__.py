"""Repeats one lot: `python -m tests.faults power_cut 3/120/4`."""

import sys

from tests.faults import damage, io_errors, power_cut

if __name__ == "__main__":
    what, lot = sys.argv[1:]
    repeat = {"power_cut": power_cut, "io_errors": io_errors, "damage": damage}[what].repeat
    print(f"{what} {lot}: as promised; {repeat(lot)}")
