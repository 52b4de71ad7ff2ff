"""What can be known before any work: each finding with its remedy.

A finding is an `OperatorError`; nothing is raised here except by a broken connection.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pymongo.errors import OperationFailure, PyMongoError

from executors.classify import classify
from executors.clients import Deployment
from executors.errors import (
    CannotMigrate,
    NotAuthorised,
    NothingToRead,
    OtherCollection,
    OtherDeployment,
    SameDeployment,
    ServerSaid,
    TargetDiffers,
    TargetNotEmpty,
)
from executors.metadata import split
from executors.survey import Namespace, catalogue, measure, namespaces, refuse_unsupported
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.state import State

UNAUTHORISED: Final = 13
SOURCE_ACTIONS: Final = ("find", "listCollections", "listIndexes", "collStats")
TARGET_ACTIONS: Final = (
    "insert",
    "createCollection",
    "createIndex",
    "bypassDocumentValidation",
    "find",
    "listCollections",
)


def examine(source: Deployment, target: Deployment | None, spec: JobSpec) -> list[OperatorError]:
    """Everything that would stop a new job with this spec, as far as it can be seen."""
    findings: list[OperatorError] = []
    found: list[Namespace] = []
    with _answers(source, findings):
        found = catalogue(source.client, spec.include, spec.exclude)
        findings += _of_source(source, spec, found)
    if target is not None and not findings:
        with _answers(target, findings):
            findings += _of_target(source, target, spec, found)
    return findings


def examine_deployments(
    source: Deployment, target: Deployment, spec: JobSpec
) -> list[OperatorError]:
    """Whether these are the deployments that the job names."""
    findings: list[OperatorError] = []
    for deployment, began, where in (
        (source, spec.source_id, spec.source),
        (target, spec.target_id, spec.target),
    ):
        if not deployment.is_same_as(began):
            there = f"{deployment.where} (replica set {deployment.identity})"
            findings.append(
                OtherDeployment(deployment.role, f"{where} (replica set {began})", there)
            )
    return findings


def examine_resume(source: Deployment, target: Deployment, state: State) -> list[OperatorError]:
    """Everything that makes going on with this job wrong: other deployments, other collections."""
    assert state.spec is not None
    if findings := examine_deployments(source, target, state.spec):
        return findings
    with _answers(source, findings):
        for unit_id in state.open_units:
            unit = state.units[unit_id]
            findings += _another(source, unit.id, unit.uuid)
    with _answers(target, findings):
        for unit in state.units.values():
            if unit.target_uuid:
                findings += _another(target, unit.target, unit.target_uuid)
    return findings


def _another(deployment: Deployment, namespace: str, uuid: str) -> Iterator[OperatorError]:
    """A finding if the name does not mean the collection of that UUID any more."""
    database, collection = split(namespace)
    now = [each.uuid for each in namespaces(deployment.client, database, name=collection)]
    if now != [uuid]:
        yield OtherCollection(deployment.role, namespace, uuid, now[0] if now else "")


@contextmanager
def _answers(deployment: Deployment, findings: list[OperatorError]) -> Iterator[None]:
    """A question that the server refuses or does not answer becomes a finding."""
    try:
        yield
    except OperationFailure as error:
        if error.code == UNAUTHORISED:
            findings.append(_refusal(deployment, error))
        else:
            findings.append(_said(deployment, error))
    except PyMongoError as error:
        findings.append(_said(deployment, error))


def _said(deployment: Deployment, error: PyMongoError) -> OperatorError:
    _, code, why = classify(error)
    return ServerSaid(deployment.role, deployment.where, code, why)


def _of_source(
    source: Deployment, spec: JobSpec, found: Sequence[Namespace]
) -> Iterator[OperatorError]:
    if not found and spec.include:
        yield NothingToRead(", ".join(spec.include), source.where)
    for entry in found:
        try:
            refuse_unsupported(entry)
        except CannotMigrate as error:
            yield error
    yield from _missing(source, SOURCE_ACTIONS, {entry.database for entry in found})


def _of_target(
    source: Deployment, target: Deployment, spec: JobSpec, found: Sequence[Namespace]
) -> Iterator[OperatorError]:
    if source.overlaps(target):
        yield SameDeployment(source.where)
        return
    actions: tuple[str, ...] = TARGET_ACTIONS
    actions += ("dropCollection",) if spec.drop else ()
    actions += ("update",) if spec.on_conflict == "overwrite" else ()
    missing = list(_missing(target, actions, {entry.database for entry in found}))
    yield from missing
    if missing or spec.kind == "verify" or spec.drop or spec.on_conflict != "stop":
        return
    if spec.kind == "plan":  # tells by itself what it foresees of collections
        found = [entry for entry in found if entry.type == "view"]
    for entry in found:
        for there in namespaces(target.client, entry.database, name=entry.collection):
            if there.type != entry.type:
                yield TargetDiffers(entry.name, f"a {there.type}")
            elif entry.type == "collection":
                documents, _ = measure(target.client, entry.database, entry.collection)
                if documents:
                    yield TargetNotEmpty(entry.name, documents)


# --- privileges ---


def _missing(
    deployment: Deployment, actions: Sequence[str], databases: set[str]
) -> Iterator[OperatorError]:
    """What the logged-in user may not do; without access control everybody may do all."""
    status = deployment.client.admin.command("connectionStatus", showPrivileges=True)["authInfo"]
    if not status["authenticatedUsers"]:
        try:
            deployment.client.admin.command("listDatabases", nameOnly=True)
        except OperationFailure as error:
            yield _refusal(deployment, error)
        return
    privileges = status["authenticatedUserPrivileges"]
    for database in sorted(databases):
        lacking = [action for action in actions if not _allowed(privileges, action, database)]
        if lacking:
            what = f"{', '.join(lacking)} on database {database}"
            yield NotAuthorised(deployment.role, deployment.where, what)


def _allowed(privileges: Sequence[dict[str, Any]], action: str, database: str) -> bool:
    return any(
        action in privilege["actions"] and _covers(privilege["resource"], database)
        for privilege in privileges
    )


def _covers(resource: dict[str, Any], database: str) -> bool:
    if resource.get("anyResource"):
        return True
    return resource.get("collection") == "" and resource.get("db") in ("", database)


def _refusal(deployment: Deployment, error: OperationFailure) -> OperatorError:
    if "list all databases" in str(error):
        what = "listDatabases: some could be left out in silence; or name those wanted with --db"
        return NotAuthorised(deployment.role, deployment.where, what)
    return NotAuthorised(
        deployment.role, deployment.where, str((error.details or {}).get("errmsg", error))[:200]
    )
