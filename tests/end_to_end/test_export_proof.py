"""The proof of exports, on fewer documents than `scripts/prove-export` has."""

import os
from pathlib import Path

import pytest

from tests.conftest import Pair
from tests.end_to_end.export_proof import Proof

DOCUMENTS = int(os.environ.get("FERRYLOG_PROOF_DOCUMENTS", "30000"))


@pytest.mark.deep
@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_an_export_that_was_killed_is_complete(pair: Pair, tmp_path: Path, form: str) -> None:
    """G2, G4, I12, I22: to a disk and to S3, whatever moment the kills hit."""
    proof = Proof(DOCUMENTS, kills=3, chunk_docs=max(1, DOCUMENTS // 15), formats=[form])
    assert proof.prove(pair.source.uri, tmp_path) == []
