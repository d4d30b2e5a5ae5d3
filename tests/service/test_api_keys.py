"""Keys: what is kept of them, how they end, and whose they are."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from service import api_keys, audit, sign_ins, workspaces
from service.bootstrap import Factory
from service.caller import Caller
from service.clock import utc_now
from service.errors import Conflict, NotFound, Unauthenticated
from service.tables import DEFAULT_WORKSPACE_ID, ApiKey, SignIn
from tests.clients import other_workspace


def who(factory: Factory, key: str) -> Caller:
    with factory.unbound().read() as work:
        return api_keys.authenticate(work, key)[0]


def test_a_key_is_recognised_and_only_its_digest_is_kept(any_factory: Factory) -> None:
    with any_factory.work() as work:
        made = api_keys.create(work, "nightly", "write")
    assert made.key.startswith(f"lf_{made.row.prefix}_")
    assert len(made.key) == 55
    assert who(any_factory, made.key) == Caller(made.row.id, "nightly", DEFAULT_WORKSPACE_ID, "write")
    with any_factory.engine.connect() as connection:
        row = str(connection.execute(text("SELECT * FROM api_keys")).one())
    assert made.key[12:] not in row


def test_scopes_include_each_other() -> None:
    allowed = {
        scope: [needed for needed in ("read", "write", "admin") if Caller("k", "n", "w", scope).may(needed)]  # type: ignore[arg-type]
        for scope in ("read", "write", "admin")
    }
    assert allowed == {"read": ["read"], "write": ["read", "write"], "admin": ["read", "write", "admin"]}


def test_a_rotated_key_has_a_new_secret_and_the_old_one_holds_as_long_as_was_said(any_factory: Factory) -> None:
    with any_factory.work() as work:
        made = api_keys.create(work, "nightly", "write")
    with any_factory.work() as work:
        second = api_keys.rotate(work, made.row.id, overlap=timedelta(hours=1))
    assert who(any_factory, made.key) == who(any_factory, second.key)
    with any_factory.work() as work:
        work.session.get_one(ApiKey, made.row.id).former_until = utc_now()
    with pytest.raises(Unauthenticated):
        who(any_factory, made.key)
    with any_factory.work() as work:
        third = api_keys.rotate(work, made.row.id)
    assert who(any_factory, third.key).key_id == made.row.id
    for old in (made.key, second.key):
        with pytest.raises(Unauthenticated):
            who(any_factory, old)


def test_a_keys_name_and_limits_are_changed_one_by_one(any_factory: Factory) -> None:
    with any_factory.work() as work:
        key_id = api_keys.create(work, "nightly", "write", max_stored_bytes=2**40).row.id
    for change, after in (
        ({"max_active_jobs": 2}, ("nightly", 2**40, 2)),
        ({"name": "daily", "max_stored_bytes": None}, ("daily", None, 2)),
        ({"name": None}, ("daily", None, 2)),
        ({}, ("daily", None, 2)),
    ):
        with any_factory.work() as work:
            api_keys.change(work, key_id, **change)
        with any_factory.read() as work:
            row = api_keys.get(work, key_id)
            assert (row.name, row.max_stored_bytes, row.max_active_jobs) == after
    with any_factory.work() as work:
        api_keys.revoke(work, key_id)
    with pytest.raises(Conflict, match="has ended"), any_factory.work() as work:
        api_keys.change(work, key_id, max_active_jobs=1)


def test_a_revoked_key_ends_for_good(any_factory: Factory) -> None:
    with any_factory.work() as work:
        made = api_keys.create(work, "leaked", "write")
        api_keys.rotate(work, made.row.id, overlap=timedelta(hours=1))
    for _ in range(2):
        with any_factory.work() as work:
            assert api_keys.revoke(work, made.row.id).revoked_at is not None
    with pytest.raises(Unauthenticated):
        who(any_factory, made.key)
    with pytest.raises(Conflict, match="has ended"), any_factory.work() as work:
        api_keys.rotate(work, made.row.id)


def test_the_last_admin_key_of_a_workspace_stays(any_factory: Factory) -> None:
    other_workspace(any_factory)  # has an admin key of its own, which opens nothing here
    with any_factory.work() as work:
        first = api_keys.create(work, "first", "admin").row
        api_keys.create(work, "expired", "admin").row.expires_at = utc_now()
        api_keys.create(work, "writer", "write")
    with pytest.raises(Conflict, match="only admin key"), any_factory.work() as work:
        api_keys.revoke(work, first.id)
    with any_factory.work() as work:
        api_keys.create(work, "second", "admin")
        assert api_keys.revoke(work, first.id).revoked_at is not None


def test_a_session_ends_with_its_key_or_its_secret(any_factory: Factory) -> None:
    def session(secret: str) -> str:
        with any_factory.unbound().work() as work:
            return sign_ins.open_session(work, secret)[0]

    def look(token: str) -> Caller:
        with any_factory.unbound().read() as work:
            return sign_ins.caller_of_session(work, token)[0]

    with any_factory.work() as work:
        made = api_keys.create(work, "person", "write")
    token = session(made.key)
    assert look(token).key_name == "person"
    with any_factory.work() as work:
        kept = api_keys.rotate(work, made.row.id, overlap=timedelta(hours=1))
    assert look(token).key_name == "person"
    with any_factory.work() as work:
        work.session.get_one(ApiKey, made.row.id).former_until = utc_now()
    with pytest.raises(Unauthenticated):
        look(token)
    token = session(kept.key)
    with any_factory.work() as work:
        api_keys.revoke(work, made.row.id)
    with pytest.raises(Unauthenticated, match="revoked"):
        look(token)


def test_a_link_opens_one_session_and_ends_by_itself(any_factory: Factory) -> None:
    with any_factory.work() as work:
        key_id = api_keys.create(work, "person", "write").row.id
        used, late = sign_ins.open_link(work, key_id), sign_ins.open_link(work, key_id)
    with any_factory.unbound().work() as work:
        token, caller = sign_ins.open_session(work, used)
        assert caller.key_id == key_id
    with any_factory.work() as work:
        work.session.get_one(SignIn, api_keys.digest(late)).expires_at = utc_now()
    for spent in (used, late, token, "x", ""):
        with pytest.raises(Unauthenticated), any_factory.unbound().work() as work:
            sign_ins.open_session(work, spent)
    with pytest.raises(Unauthenticated), any_factory.unbound().read() as work:
        sign_ins.caller_of_session(work, used)


def test_expired_sign_ins_are_swept(any_factory: Factory) -> None:
    with any_factory.work() as work:
        key_id = api_keys.create(work, "person", "write").row.id
        old = sign_ins.open_link(work, key_id)
    with any_factory.work() as work:
        work.session.get_one(SignIn, api_keys.digest(old)).expires_at = utc_now()
    with any_factory.work() as work:
        sign_ins.open_link(work, key_id)
        assert work.session.get(SignIn, api_keys.digest(old)) is None


def test_another_workspaces_keys_and_log_are_not_there(any_factory: Factory) -> None:
    others = any_factory.within(other_workspace(any_factory))
    with any_factory.work() as work:
        key_id = api_keys.create(work, "mine", "admin").row.id
        audit.record_operator(work, "create_api_key", key_id)
    with others.work() as work:
        assert [row.name for row in api_keys.list_page(work).items] == ["first key"]
        assert [row.operation for row in audit.list_page(work).items] == []
        assert len(workspaces.list_page(work).items) == 1
    for change in (api_keys.change, api_keys.rotate, api_keys.revoke, sign_ins.open_link):
        with pytest.raises(NotFound), others.work() as work:
            change(work, key_id)
