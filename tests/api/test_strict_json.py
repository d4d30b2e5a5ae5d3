"""Raw JSON bodies that parsers, databases or logs trip over are refused, never a 500."""

import json

import pytest
from fastapi.testclient import TestClient

from api import strict_json
from service.errors import BadRequest, Invalid

JSON = {"content-type": "application/json"}
GOOD = {"kind": "label", "annotation_set_id": "ann_x", "generator": "g"}


def spec(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def with_number(text: str) -> bytes:
    return spec(num_images=12345).replace(b"12345", text.encode())


UNREADABLE = {
    "NaN": with_number("NaN"),
    "Infinity": with_number("Infinity"),
    "-Infinity": with_number("-Infinity"),
    "1e999": with_number("1e999"),
    "lone surrogate": spec().replace(b'"g"', b'"\\ud800"'),
    "lone surrogate in a key": spec().replace(b'"generator"', b'"\\udfff"'),
    "NUL": spec().replace(b'"g"', b'"a\\u0000b"'),
    "nested 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "nested 100 deep": spec(head=json.loads("[" * 100 + "]" * 100)),
    "5,000 digits": with_number("9" * 5_000),
    "invalid UTF-8": spec().replace(b'"g"', b'"\xff\xfe"'),
    "byte order mark": b"\xef\xbb\xbf" + spec(),
    "UTF-16": spec().decode().encode("utf-16"),
    "truncated": spec()[:-5],
    "two documents": spec() + spec(),
    "not JSON": b"kind=label",
    "single quotes": b"{'kind': 'label'}",
    "only white space": b"   ",
}
WRONG = {
    "2^63": with_number(str(2**63)),
    "2^70": with_number(str(2**70)),
    "-2^70": with_number(str(-(2**70))),
    "10^12 images": with_number(str(10**12)),
    "true for an integer": spec(num_images=True),
    "text for an integer": spec(num_images="1"),
    "float for an integer": spec(num_images=1.5),
    "unknown key": spec(colour="red"),
    "unknown nested key": spec(head={"kind": "fusion", "depth": 3}),
    "repeated key": spec().replace(b'"kind"', b'"generator": "h", "kind"', 1),
    "unknown kind": spec(kind="paint"),
    "no kind": b'{"generator": "g"}',
    "a list": b"[1, 2]",
    "null": b"null",
    "a number": b"7",
    "empty name": spec(name=""),
    "control characters in a name": spec(name="a\nb"),
    "10 KB name": spec(name="n" * 10_000),
    "zero images": spec(num_images=0),
    "share above one": spec(filter={"drop_share": 1.5}),
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_unreadable_bodies_are_400(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/jobs", content=body, headers=JSON)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 400


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
def test_wrong_bodies_are_422_with_places(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/jobs", content=body, headers=JSON)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["errors"]
    assert all(error["place"] and error["message"] for error in problem["errors"])


def test_every_wrong_place_is_listed(client: TestClient) -> None:
    body = spec(num_images=True, seed=-1, colour="red")
    places = {error["place"] for error in client.post("/v1/jobs", content=body, headers=JSON).json()["errors"]}
    assert {place.rpartition(".")[2] for place in places} == {"num_images", "seed", "colour"}


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_other_media_types_are_415(client: TestClient, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    assert client.post("/v1/jobs", content=spec(), headers=headers).status_code == 415


def test_an_empty_body_is_422(client: TestClient) -> None:
    assert client.post("/v1/jobs", headers=JSON).status_code == 422


def test_a_body_beyond_the_limit_is_413(client: TestClient) -> None:
    answer = client.post("/v1/jobs", content=spec(name="x" * (1 << 20)), headers=JSON)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_chunked_body_beyond_the_limit_is_413(client: TestClient) -> None:
    answer = client.post("/v1/jobs", content=(b" " * 65_536 for _ in range(20)), headers=JSON)
    assert answer.status_code == 413


def test_parse_takes_ordinary_documents() -> None:
    document = {"a": [1, 2.5, None, True, "ü😀"], "b": {"c": {}}}
    assert strict_json.parse(json.dumps(document).encode()) == document
    assert strict_json.parse(json.dumps(document, ensure_ascii=False).encode()) == document


def test_parse_names_the_repeated_key() -> None:
    with pytest.raises(Invalid) as caught:
        strict_json.parse(b'{"a": {"b": 1, "b": 2}}')
    assert caught.value.errors[0]["place"] == "b"


def test_parse_counts_depth_of_lists_and_objects() -> None:
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        inner = "1"
        strict_json.parse((opening * 60 + inner + closing * 60).encode())
        with pytest.raises(BadRequest):
            strict_json.parse((opening * 70 + inner + closing * 70).encode())
