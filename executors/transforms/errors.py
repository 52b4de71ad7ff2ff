"""What an operator can get wrong about code of their own; each with its remedy."""

from collections.abc import Sequence
from typing import Self

from statemachine.errors import OperatorError


class OfCode(OperatorError):
    """Found in the process of the code, and raised in ours."""

    told: tuple[str, ...]

    def __reduce__(self) -> tuple[type[Self], tuple[str, ...]]:
        return type(self), self.told


class CannotLoad(OfCode):
    """There is no such code, or it cannot be imported."""

    code, exit_code = "ETRANSFORM001", 2

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"{name} cannot be loaded: {why}",
            remedy="write module:name or PATH/file.py:name, and start where the module can be "
            "imported: the current folder is looked in first",
        )
        self.told = (name, why)


class NoTransform(OfCode):
    """What the name means takes no document, or gives none back."""

    code, exit_code = "ETRANSFORM002", 2

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"{name} {why}",
            remedy="name a plain function that takes one document, a dict, and returns one",
        )
        self.told = (name, why)


class NoModel(OfCode):
    code, exit_code = "ETRANSFORM003", 2

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is no pydantic model", remedy="name a class made from pydantic.BaseModel"
        )
        self.told = (name,)


class TooManyMalformed(OperatorError):
    """A sample shows that too many documents would be rejected."""

    code = "ETRANSFORM004"

    def __init__(self, said: Sequence[str], percent: float) -> None:
        super().__init__(
            f"more than {percent:g} % of a sample would be rejected: " + "; ".join(said),
            remedy="mend the code or the documents, leave some out with --query or --ns-exclude, "
            "or go on all the same: --max-malformed PERCENT",
        )


class NoProcess(OperatorError):
    """Processes for the code end before they begin with a document."""

    code = "ETRANSFORM005"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"no process for your code stays alive: {why}",
            remedy="look at memory and at limits of the machine; fewer --transform-workers",
        )


class NoTimeSeries(OperatorError):
    """What is stored of one is buckets, not its documents."""

    code = "ETRANSFORM006"

    def __init__(self, namespaces: Sequence[str]) -> None:
        super().__init__(
            f"{', '.join(namespaces)}: a time series is carried by its buckets, in which your "
            "code would not find the documents",
            remedy="leave it out of this job with --ns-exclude and carry it by one of its own",
        )
