"""A server goes on with a command when whoever sent it is gone: nothing is done beside it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from executors.folder import folder_name
from executors.operation.perform import run_operation, undo_operation
from executors.operation.record import RECORD, Record
from executors.operation.sending import wait_out
from executors.protocol import Stopped
from tests.conftest import Pair
from tests.end_to_end.test_main_job import until
from tests.executors.examples import Looks
from tests.executors.operation.cases import Case, orders
from tests.executors.undo.world import world

pytestmark = pytest.mark.server
SLOW = Case(
    "an update that takes a while",
    {
        "update": "orders",
        "updates": [
            {"q": {"$where": "sleep(50); return true"}, "u": {"$set": {"seen": 1}}, "multi": True}
        ],
    },
    [
        {
            "update": "orders",
            "updates": [{"q": {}, "u": {"$unset": {"seen": 1}}, "multi": True}],
        }
    ],
)


def test_an_undo_waits_for_what_still_runs(pair: Pair, tmp_path: Path) -> None:
    """I37, I40: a command of a process that died is looked at when the server is done with it."""
    client = pair.target_client
    orders(client["shop"])
    before = world(client)
    own = tmp_path / "undo" / "operation" / folder_name(SLOW.operation.id)
    with ThreadPoolExecutor(1) as gone:
        running = gone.submit(run_operation, {"": client}, SLOW.operation, Looks(), tmp_path)
        until(lambda: (own / RECORD).is_file() and Record(own).step == "sent")
        until(lambda: client["shop"]["orders"].count_documents({"seen": 1}))
        with pytest.raises(Stopped):
            wait_out(client, Record(own).session, Looks(0))
        undo_operation({"": client}, SLOW.operation, Looks(), tmp_path)
        assert world(client) == before
        running.result()
    assert world(client) == before
