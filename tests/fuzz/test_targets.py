"""Each target on its seeds, and on a few changes of each: `scripts/fuzz` does the rest."""

import random

import pytest

from tests.counts import count
from tests.fuzz.changes import changed
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_no_bytes_surprise_a_reader(target: str) -> None:
    """I24: what reads files of unknown origin takes them or names the damage, whatever they
    hold."""
    chance = random.Random(target)
    for seed in seeds(target):
        TARGETS[target](seed)
        for _ in range(5):
            TARGETS[target](changed(seed, chance))
        count("inputs of fuzz targets", 6)
