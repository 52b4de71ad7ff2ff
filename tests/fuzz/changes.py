"""Changes of inputs, for where no coverage guides them."""

from random import Random

_TELLING = (b"\0", b"\xff", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\5\0\0\0\0")


def changed(data: bytes, chance: Random) -> bytes:
    """The same bytes, with one to three places overwritten, cut out or repeated."""
    for _ in range(chance.randint(1, 3)):
        at, end = sorted(chance.choices(range(len(data) + 1), k=2))
        match chance.randrange(5):
            case 0:
                data = data[:at] + chance.randbytes(1) + data[at + 1 :]
            case 1:
                piece = chance.choice(_TELLING)
                data = data[:at] + piece + data[at + len(piece) :]
            case 2:
                data = data[:at] + data[min(end, at + 30) :]
            case 3:
                data = data[:end] + data[at : at + 30] + data[end:]
            case _:
                data = data[:end]
    return data
