"""What can be known before any work: each finding with its remedy.

A finding is an `OperatorError`; nothing is raised here except by a broken connection.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure, PyMongoError

from executors.boundaries import from_text
from executors.classify import classify
from executors.clients import NOT_AUTHORISED, Deployment
from executors.dumps.model import Dump
from executors.dumps.restoring import wanted_of
from executors.errors import (
    BadQuery,
    CannotMigrate,
    NoSnapshot,
    NotExported,
    NothingToRead,
    OlderServer,
    OtherCollection,
    OtherDeployment,
    QueryOfBuckets,
    SameDeployment,
    ServerSaid,
    TargetDiffers,
    TargetNotEmpty,
)
from executors.expiry import expires
from executors.export.errors import BadProjection
from executors.export.selection import projection_of
from executors.increments.catalogue import entries_of
from executors.increments.chain import open_chain
from executors.increments.follow import refuse_unfollowable
from executors.privileges import Needed, missing, of_source, of_target, refusal
from executors.select import USERS, split, targets_of, unmatched
from executors.survey import Namespace, catalogue, measured, namespaces, refuse_unsupported
from executors.undo.aside import staged
from statemachine.errors import OperatorError
from statemachine.events import JobSpec
from statemachine.state import State, Unit, is_whole, restores_chain


def examine(source: Deployment, target: Deployment | None, spec: JobSpec) -> list[OperatorError]:
    """Everything that would stop a new job with this spec, as far as it can be seen."""
    findings: list[OperatorError] = []
    carried: list[Needed] = []
    with _answers(source, findings):
        carried += _of_source(source, spec, findings)
        if spec.follow:
            refuse_unfollowable(source.client, spec)
    if target is not None and not findings:
        with _answers(target, findings):
            if source.overlaps(target):
                return [SameDeployment(source.where)]
            findings += _of_target(target, spec, carried)
    return findings


def examine_dump_source(source: Deployment, spec: JobSpec) -> list[OperatorError]:
    """The same of a job that dumps: it has no target but a folder."""
    return examine(source, None, spec)


def examine_restore(dump: Dump | None, target: Deployment, spec: JobSpec) -> list[OperatorError]:
    """The same of a job that restores. What an archive holds is not known before it is read: then
    `dump` is `None`, and nothing can be asked."""
    findings: list[OperatorError] = []
    if dump is None:
        return findings
    with _answers(target, findings):
        if dump.server_version and _release(target.version) < _release(dump.server_version):
            findings.append(OlderServer(target.where, target.version, dump.server_version))
        wanted, _ = wanted_of(dump, spec)
        findings += _missed([each.namespace for each in wanted], spec, dump.where)
        names = targets_of([each.namespace for each in wanted], spec)
        carried = [
            Needed(
                each.namespace,
                names[each.namespace],
                each.type,
                expires(each.options, each.indexes),
            )
            for each in wanted
        ]
        findings += _of_target(target, spec, carried, list(_of_links(dump, spec)))
    return findings


def _of_links(dump: Dump, spec: JobSpec) -> Iterator[Needed]:
    """What the increments of a chain are brought to: names that the full dump need not know."""
    if restores_chain(spec):
        for increment in open_chain(dump.root, upto=spec.links + bool(spec.at)).increments:
            for each in entries_of(increment.dump.namespaces, spec):
                expiring = expires(each.dumped.options, each.dumped.indexes)
                yield Needed(each.dumped.namespace, each.target, each.dumped.type, expiring)


def examine_deployments(
    source: Deployment | None, target: Deployment | None, spec: JobSpec
) -> list[OperatorError]:
    """Whether these are the deployments that the job names. A side that is a dump is `None`."""
    findings: list[OperatorError] = []
    for deployment, began, where in (
        (source, spec.source_id, spec.source),
        (target, spec.target_id, spec.target),
    ):
        if deployment is not None and not deployment.is_same_as(began):
            there = f"{deployment.where} (replica set {deployment.identity})"
            findings.append(
                OtherDeployment(deployment.role, f"{where} (replica set {began})", there)
            )
    return findings


def examine_resume(
    source: Deployment | None, target: Deployment | None, state: State
) -> list[OperatorError]:
    """Everything that makes going on with this job wrong: other deployments, other collections."""
    assert state.spec is not None
    if findings := examine_deployments(source, target, state.spec):
        return findings
    if source is not None:
        with _answers(source, findings):
            for unit_id in () if state.spec.follow else state.open_units:  # renames are followed
                unit = state.units[unit_id]
                findings += _another(source, unit.id, unit.uuid)
    carried = not state.open_units and is_whole(state.spec)
    if target is not None and not carried:  # else changes have renamed and dropped since
        with _answers(target, findings):
            for unit in state.units.values():
                if unit.target_uuid and not _waits_for_its_name(target, unit, state.spec):
                    findings += _another(target, unit.target, unit.target_uuid)
    return findings


def _waits_for_its_name(target: Deployment, unit: Unit, spec: JobSpec) -> bool:
    """Whether what is filled stands where `--swap` has it meanwhile. A killed process may have
    given it its own name already."""
    between = staged(unit, spec).target
    if unit.swapped or between == unit.target:
        return False
    return not list(_another(target, between, unit.target_uuid))


def _another(deployment: Deployment, namespace: str, uuid: str) -> Iterator[OperatorError]:
    """A finding if the name does not mean the collection of that UUID any more."""
    database, collection = split(namespace)
    now = [each.uuid for each in namespaces(deployment.client, database, name=collection)]
    if now != [uuid]:
        yield OtherCollection(deployment.role, namespace, uuid, now[0] if now else "")


@contextmanager
def _answers(deployment: Deployment, findings: list[OperatorError]) -> Iterator[None]:
    """A question that the server refuses or does not answer, or that has no answer, becomes a
    finding."""
    try:
        yield
    except OperatorError as error:
        findings.append(error)
    except OperationFailure as error:
        if error.code == NOT_AUTHORISED:
            findings.append(refusal(deployment, error))
        else:
            findings.append(_said(deployment, error))
    except PyMongoError as error:
        findings.append(_said(deployment, error))


def _said(deployment: Deployment, error: PyMongoError) -> OperatorError:
    _, code, why = classify(error)
    return ServerSaid(deployment.role, deployment.where, code, why)


def _of_source(
    source: Deployment, spec: JobSpec, findings: list[OperatorError]
) -> Iterator[Needed]:
    """What the job would carry; what is wrong with it becomes findings."""
    found = catalogue(source.client, spec)
    if not spec.incremental:  # what is gone since is a change like others
        findings += _missed([each.name for each in found], spec, source.where)
        findings += _of_queries(source, spec, found)
        findings += _of_projection(source, spec, found)
    for entry in found:
        try:
            refuse_unsupported(entry, spec)
        except (CannotMigrate, NoSnapshot, NotExported, QueryOfBuckets) as error:
            findings.append(error)
    names = targets_of([entry.name for entry in found], spec)
    carried = [Needed(entry.name, names[entry.name], entry.type) for entry in found]
    findings += missing(source, of_source(carried, spec))
    yield from carried


def _missed(names: Sequence[str], spec: JobSpec, where: str) -> Iterator[OperatorError]:
    """What a job was asked for and would not carry. One that compares may miss a name."""
    if (missed := unmatched(names, spec)) and not (names and spec.kind == "verify"):
        yield NothingToRead(", ".join(missed), where)


def _of_queries(
    source: Deployment, spec: JobSpec, found: Sequence[Namespace]
) -> Iterator[OperatorError]:
    """A query for what is not there would leave nothing out, without a word."""
    for glob, text in spec.queries:
        named = [
            each
            for each in found
            if each.type != "view" and each.name not in USERS and fnmatchcase(each.name, glob)
        ]
        if not named and glob != "*":
            yield NothingToRead(f"the query for {glob}", source.where)
        for each in named[:1]:
            if why := _refused(source, each, {"filter": RawBSONDocument(from_text(text))}):
                yield BadQuery(glob, source.where, why)


def _of_projection(
    source: Deployment, spec: JobSpec, found: Sequence[Namespace]
) -> Iterator[OperatorError]:
    fields = projection_of(spec).fields
    if fields is None:
        return
    for each in [each for each in found if each.type != "view"][:1]:
        if why := _refused(source, each, {"projection": RawBSONDocument(fields)}):
            yield BadProjection(why)


def _refused(source: Deployment, entry: Namespace, how: dict[str, Any]) -> str:
    """Why the server would not run such a `find`; empty: it would."""
    database, collection = split(entry.name)
    find = {"find": collection, **how}
    try:
        source.client.get_database(database).command("explain", find, verbosity="queryPlanner")
    except OperationFailure as error:
        if error.code == NOT_AUTHORISED:
            raise
        return classify(error)[2]
    return ""


def _of_target(
    target: Deployment, spec: JobSpec, carried: Sequence[Needed], later: Sequence[Needed] = ()
) -> Iterator[OperatorError]:
    lacking = list(missing(target, of_target([*carried, *later], spec)))
    yield from lacking
    if lacking or spec.kind == "verify" or spec.drop or spec.on_conflict != "stop":
        return
    for each in carried:
        # A dry run tells by itself what it foresees of collections.
        if each.source in USERS or (spec.kind == "plan" and each.type != "view"):
            continue
        yield from in_the_way(target, each)


def in_the_way(target: Deployment, each: Needed) -> Iterator[OperatorError]:
    """What bears the name on the target and is no empty thing of its kind."""
    database, collection = split(each.target)
    for there in namespaces(target.client, database, name=collection):
        if there.type != each.type:
            yield TargetDiffers(each.target, f"a {there.type}")
        elif documents := measured(target.client, there)[0]:
            yield TargetNotEmpty(each.target, documents)


def _release(version: str) -> tuple[int, ...]:
    """Those parts of a version that tell what it understands."""
    parts = (part for part in version.split(".")[:2])
    return tuple(int(part) if part.isdecimal() else 0 for part in parts)
