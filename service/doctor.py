"""`python -m service.doctor`: what this process's settings lead to, looked at one by one, and what to do about it.

Changes nothing but a probe that is written into the store, read and removed. A database file that is not there is not
made. `label-factory doctor` asks this and `workers.doctor` in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from service import duties, monitoring, object_keys
from service.bootstrap import Factory, build_factory
from service.clock import read_clock, utc_now
from service.collector import store_owner
from service.database import current_revision, knows_revision, newest_revision
from service.errors import NotFound
from service.settings import ENV_PREFIX, Settings, faults

CLOCK_SECONDS = 5.0
"""Clocks further apart than this are told."""
POSTGRESQL = 140_000
"""Oldest server that is tried: 14."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    """What was looked at."""
    ok: bool
    """Whether the factory can work with it."""
    found: str
    """What there is."""
    what_to_do: str = ""
    """If it is not right, how to make it right."""


def examine(settings: Settings) -> list[Finding]:
    """Every check; one that cannot be carried out is a finding too."""
    findings = [
        _settings(settings),
        _disk(settings),
    ]
    if _is_new(settings):
        findings.append(Finding("database", ok=True, found="none yet: the first start makes it"))
        return findings
    try:
        factory = build_factory(settings)
    except (OSError, ValueError) as error:
        findings.append(Finding("store", False, str(error)[:300], "Correct LABEL_FACTORY_STORAGE_URL."))
        return findings
    try:
        findings += _database(factory)
        reached = all(finding.ok for finding in findings if finding.check in ("database", "schema"))
        findings += [_store(factory), _broker(settings)]
        if reached:
            findings += [_owner(factory), _clock(factory), _workers(factory)]
    finally:
        factory.close()
    return findings


def _checked(check: str, what_to_do: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - whatever a driver raises is what was found
        words = str(error).strip().partition("\n")[0] or type(error).__name__
        return Finding(check, ok=False, found=words[:300], what_to_do=what_to_do)


def _settings(settings: Settings) -> Finding:
    """Names that are nearly a setting's have no effect, and nobody would say so."""
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    meant = {
        name: near[0]
        for name in sorted(os.environ)
        if name.startswith(ENV_PREFIX)
        and name not in known
        and (near := get_close_matches(name, known, n=1, cutoff=0.9))
    }
    if meant:
        advice = ", ".join(f"{name} to {near}" for name, near in meant.items())
        return Finding("settings", ok=False, found=f"not a setting: {', '.join(meant)}", what_to_do=f"Rename {advice}")
    return Finding("settings", ok=True, found="embedded" if settings.embedded else "cluster")


def _is_new(settings: Settings) -> bool:
    """Whether the settings name a SQLite file that is not there; looking into it would make it."""
    url = make_url(settings.resolved_database_url)
    return url.get_backend_name() == "sqlite" and not Path(url.database or "").exists()


def _disk(settings: Settings) -> Finding:
    """Room for the database, the objects of a folder and files in flight."""
    reserve, low, places = settings.min_free_bytes, [], {}
    for folder in {settings.data_dir.absolute(), settings.resolved_scratch_dir}:
        while not folder.exists():
            folder = folder.parent
        places[folder] = shutil.disk_usage(folder).free
        if places[folder] < 2 * reserve:
            low.append(str(folder))
    found = ", ".join(f"{free / 1e9:.1f} GB free at {folder}" for folder, free in sorted(places.items()))
    advice = (
        f"Make room at {' and '.join(low)}: with less than {reserve / 1e9:.1f} GB free, uploads and steps are refused."
    )
    return Finding("disk", not low, found, advice if low else "")


def _database(factory: Factory) -> list[Finding]:
    url = factory.engine.url.render_as_string(hide_password=True)
    advice = f"Start the database of {url}, or correct LABEL_FACTORY_DATABASE_URL."
    reached = _checked("database", advice, lambda: _engine_finding(factory.engine, url))
    if not reached.ok:
        return [reached]
    return [reached, _checked("schema", "Run `python -m service.bootstrap`.", lambda: _schema(factory.engine))]


def _engine_finding(engine: Engine, url: str) -> Finding:
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            mode = str(connection.scalar(text("PRAGMA journal_mode")))
            damage = [str(row[0]) for row in connection.execute(text("PRAGMA quick_check(3)"))]
            if damage != ["ok"]:
                return Finding("database", False, "; ".join(damage)[:300], "Stop the service and restore a backup.")
            return Finding(
                "database",
                mode == "wal",
                f"SQLite at {engine.url.database}, {mode}, sound",
                "Use a local disk: WAL needs it.",
            )
        number = int(connection.scalar(text("SHOW server_version_num")) or 0)
        found = f"PostgreSQL {number // 10_000} at {url}"
        return Finding("database", number >= POSTGRESQL, found, "Use PostgreSQL 14 or newer.")


def _schema(engine: Engine) -> Finding:
    newest = newest_revision()
    with engine.connect() as connection:
        revision = current_revision(connection)
    if revision == newest:
        return Finding("schema", ok=True, found=revision)
    if revision is not None and not knows_revision(revision):
        return Finding("schema", False, f"{revision}, unknown here", "A newer release has been here: install that one.")
    return Finding("schema", False, f"{revision or 'no tables'} of {newest}", "Run `python -m service.bootstrap`.")


def _store(factory: Factory) -> Finding:
    """Write, read and remove a probe."""

    def look() -> Finding:
        key, content = object_keys.store_probe(uuid.uuid4().hex), uuid.uuid4().bytes
        factory.storage.put_stream(key, [content])
        same = b"".join(factory.storage.get_stream(key)) == content
        factory.storage.delete(key)
        gone = not factory.storage.exists(key)
        found = f"{factory.settings.resolved_storage_url}: written, read{', removed' if gone else ', not removed'}"
        return Finding(
            "store", same and gone, found, "Other bytes came back, or the key may not delete; look at the store."
        )

    return _checked(
        "store", "Start the store, make the bucket, or correct LABEL_FACTORY_STORAGE_URL and LABEL_FACTORY_S3_*.", look
    )


def _owner(factory: Factory) -> Finding:
    """Whether the objects belong to this database."""

    def look() -> Finding:
        try:
            owner = store_owner(factory.storage)
        except NotFound:
            return Finding("store belongs to database", ok=True, found="not tied yet: the first collection does it")
        with factory.read() as work:
            ours = duties.exists(work, owner)
        advice = (
            "LABEL_FACTORY_DATABASE_URL and LABEL_FACTORY_STORAGE_URL are of different factories; correct one of them."
        )
        return Finding("store belongs to database", ours, owner or "unreadable", advice)

    return _checked("store belongs to database", "See the check of the store.", look)


def _broker(settings: Settings) -> Finding:
    """Reachable, forgets nothing, survives a crash."""
    if settings.embedded:
        return Finding("broker", ok=True, found="none needed: workers look at the database")

    def look() -> Finding:
        # Comes with the extra "cluster".
        import redis  # noqa: PLC0415

        client = redis.Redis.from_url(settings.broker_url, socket_connect_timeout=5, socket_timeout=5)
        facts: dict[str, Any] = client.info()  # type: ignore[assignment]
        client.close()
        policy, appended = str(facts.get("maxmemory_policy")), bool(facts.get("aof_enabled"))
        found = f"Redis {facts.get('redis_version')}, {policy}, append-only file {'on' if appended else 'off'}"
        advice = "Set maxmemory-policy noeviction and appendonly yes: rings that are evicted or lost cost waiting."
        return Finding("broker", policy == "noeviction" and appended, found, advice)

    return _checked("broker", "Start Redis, or correct LABEL_FACTORY_BROKER_URL.", look)


def _clock(factory: Factory) -> Finding:
    """This machine's, the database's and the store's."""

    def look() -> Finding:
        with factory.read() as work:
            database = (read_clock(work.session) - utc_now()).total_seconds()
        key = object_keys.store_probe(uuid.uuid4().hex)
        factory.storage.put_stream(key, [b"clock"])
        written: datetime = factory.storage.stat(key).modified_at
        store = (written - utc_now()).total_seconds()
        factory.storage.delete(key)
        worst = max(abs(database), abs(store))
        found = f"database {database:+.1f} s, store {store:+.1f} s"
        advice = "Run a time service (chrony, systemd-timesyncd) on all machines: links would expire early or late."
        return Finding("clock", worst <= CLOCK_SECONDS, found, advice)

    return _checked("clock", "See the checks of database and store.", look)


def _workers(factory: Factory) -> Finding:
    """Whether somebody listens where steps wait."""

    def look() -> Finding:
        with factory.read() as work:
            readings = monitoring.read(work)
        alive = {
            queue: sum(queue in worker.queues for worker in readings.workers) for queue in readings.waiting_seconds
        }
        unheard = [queue for queue, number in alive.items() if not number and readings.steps[queue, "ready"]]
        found = ", ".join(f"{queue}: {number} alive" for queue, number in alive.items())
        advice = (
            f"Steps wait for {' and '.join(unheard)}: start a worker (`label-factory worker`, `docker compose up`)."
        )
        return Finding("workers", not unheard, found, advice)

    return _checked("workers", "See the check of the database.", look)


def settings_or_faults() -> Settings | list[Finding]:
    """The settings, or what is wrong with each of them."""
    try:
        return Settings()
    except ValidationError as error:
        return [
            Finding("settings", ok=False, found=fault, what_to_do="Correct it and start again")
            for fault in faults(error)
        ]


def tell(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Write findings to standard output."""
    if as_json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings]) + "\n")
        return
    for finding in findings:
        sys.stdout.write(f"{'ok   ' if finding.ok else 'WRONG'} {finding.check}: {finding.found}\n")
        if not finding.ok:
            sys.stdout.write(f"      {finding.what_to_do}\n")


def main() -> None:
    """Look at everything; exit code 1 when anything is wrong."""
    parser = argparse.ArgumentParser(prog="service.doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    settings = settings_or_faults()
    findings = settings if isinstance(settings, list) else examine(settings)
    tell(findings, as_json=options.as_json)
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


if __name__ == "__main__":
    main()
