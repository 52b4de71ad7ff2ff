"""Measure dumps alone, of more documents: mongodump takes a second for what `data` has.

usage: scripts/bench dump [--rounds N] [--only small,medium,large,real] [--scale F] [--json FILE]

As `scripts/bench data`, with nothing but uncompressed dumps, ours and mongodump's. The start of the
program is part of every figure.
"""

from bench_data import compare
from common import options


def main() -> None:
    parser = options(__doc__, only="small,medium,large,real")
    parser.add_argument("--chunk-bytes", type=int, default=16 << 20)
    parser.set_defaults(scale=2.0, steps=[])
    compare("dump", parser.parse_args())


if __name__ == "__main__":
    main()
