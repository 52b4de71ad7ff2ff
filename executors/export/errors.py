"""What an operator can get wrong about an export, and what it can meet; each with its remedy."""

from statemachine.errors import FerrylogError, OperatorError


class TooManyColumns(OperatorError):
    code = "EEXPORT022"

    def __init__(self, what: str, most: int) -> None:
        super().__init__(
            f"{what}; a Parquet file gets {most} columns at most",
            remedy="choose fields with --projection, or export with --format jsonl",
        )


class BadName(OperatorError):
    code = "EEXPORT023"

    def __init__(self, field: str, most: int) -> None:
        super().__init__(
            f"a field has a name of {len(field.encode())} bytes ({field[:40]!r}…); a column's name "
            f"has {most} at most",
            remedy="leave it out with --projection, or export with --format jsonl",
        )


class NoConverter(OperatorError):
    """A process that converts died twice with the same block, or gave no answer."""

    code = "EEXPORT010"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"a block could not be converted, twice: {why}",
            remedy="look whether the machine runs out of memory: fewer --workers take less",
        )


class PlaceTaken(OperatorError):
    """What lies where an export is to go is not ours to touch."""

    code = "EEXPORT011"

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"{url}: {why}", remedy="name an empty place with --out")


class ExportStands(OperatorError):
    code = "EEXPORT012"

    def __init__(self, url: str, job: str, *, finished: bool) -> None:
        super().__init__(
            f"{url} holds {'the' if finished else 'an unfinished'} export of job {job}",
            remedy="--overwrite replaces it, once the new one is whole; or name another place",
        )


class PlaceUnusable(OperatorError):
    """What the disk says of the folder, before anything is exported."""

    code, exit_code = "EEXPORT015", 2

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"{url} cannot take an export: {why}",
            remedy="name another folder with --out; or make it writable, with room for its files",
        )


class BadProjection(OperatorError):
    code, exit_code = "EEXPORT013", 2

    def __init__(self, why: str) -> None:
        super().__init__(
            f"--projection: {why}",
            remedy='write fields and 1 or 0 as for find, such as \'{"name": 1, "_id": 0}\'',
        )


class BadManifest(OperatorError):
    """No manifest of an export, or not one that this version reads."""

    code, exit_code = "EEXPORT014", 4

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"{url}/_manifest.json: {why}",
            remedy="export again; or copy the export again, if it is a copy",
        )


class NoPyarrow(OperatorError):
    code, exit_code = "EEXPORT001", 2

    def __init__(self) -> None:
        super().__init__(
            "Parquet needs pyarrow, which is not installed",
            remedy="pip install 'ferrylog[export]'; or write --format jsonl",
        )


class NoPartition(OperatorError):
    """No folders can be made by the values of a field."""

    code, exit_code = "EEXPORT020", 2

    def __init__(self, partition: str, why: str) -> None:
        super().__init__(
            f"no partition by {partition}: {why}",
            remedy="name a field of the documents that holds text, whole numbers, yes or no, or "
            "ObjectIds; or FIELD:year, FIELD:month, FIELD:day of a date",
        )


class TooManyFolders(OperatorError):
    code = "EEXPORT021"

    def __init__(self, partition: str, most: int) -> None:
        super().__init__(
            f"a chunk has more than {most} values of {partition}: each would be a file",
            remedy="partition by something coarser, FIELD:month or FIELD:year of a date; or with "
            "smaller chunks: --chunk-docs",
        )


class Miscounted(FerrylogError):
    """A value of a document is not where it belongs: a fault of ours, and nothing is put."""

    code = "EBUG003"
