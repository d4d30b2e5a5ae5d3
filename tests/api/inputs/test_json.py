"""Inputs 1 to 13: JSON that parsers, databases or logs trip over."""

from __future__ import annotations

import json

import pytest

from tests.api.inputs.served import Served

JSON = {"content-type": "application/json"}
GOOD = {"kind": "label", "annotation_set_id": "ann_x", "generator": "g", "num_images": 12345}


def spec(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def with_number(text: str) -> bytes:
    return spec().replace(b"12345", text.encode())


def refused(served: Served, status: int, body: bytes) -> None:
    served.refused(status, url="/v1/jobs", content=body, headers=JSON)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_input_01_not_a_number_is_400(served: Served, number: str) -> None:
    refused(served, 400, with_number(number))


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_input_02_a_float_out_of_range_is_400(served: Served, number: str) -> None:
    refused(served, 400, with_number(number))


@pytest.mark.parametrize("text", [b'"\\ud800"', b'"\\udfff\\ud800"'])
def test_input_03_a_lone_surrogate_is_400(served: Served, text: bytes) -> None:
    refused(served, 400, spec().replace(b'"g"', text))
    refused(served, 400, spec().replace(b'"generator"', text))


def test_input_04_a_nul_character_is_400(served: Served) -> None:
    refused(served, 400, spec().replace(b'"g"', b'"a\\u0000b"'))


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_input_05_a_hundred_thousand_levels_are_400(served: Served, opening: bytes, closing: bytes) -> None:
    refused(served, 400, opening * 100_000 + b"1" + closing * 100_000)


def test_input_06_an_integer_of_5000_digits_is_400(served: Served) -> None:
    refused(served, 400, with_number("9" * 5_000))


@pytest.mark.parametrize("number", [2**63, 2**70, -(2**70)])
def test_input_07_an_integer_beyond_64_bits_is_422(served: Served, number: int) -> None:
    refused(served, 422, with_number(str(number)))


@pytest.mark.parametrize("number", [2**63, 2**63 - 1, -1])
def test_input_08_a_number_for_an_id_is_404(served: Served, number: int) -> None:
    served.refused(404, method="GET", url=f"/v1/jobs/{number}")
    served.refused(404, 422, method="GET", url=f"/v1/datasets/x/images/{number}.png")


@pytest.mark.parametrize("value", [True, "1", 1.5, None, [1]])
def test_input_09_another_kind_of_value_for_an_integer_is_422(served: Served, value: object) -> None:
    refused(served, 422, spec(num_images=value))


@pytest.mark.parametrize("changes", [{"colour": "red"}, {"head": {"kind": "fusion", "depth": 3}}])
def test_input_10_an_unknown_key_is_422(served: Served, changes: dict[str, object]) -> None:
    refused(served, 422, spec(**changes))


def test_input_11_a_repeated_key_is_422(served: Served) -> None:
    refused(served, 422, spec().replace(b'"kind"', b'"generator": "h", "kind"', 1))


@pytest.mark.parametrize(
    "body", [spec().replace(b'"g"', b'"\xff\xfe"'), b"\xef\xbb\xbf" + spec(), spec().decode().encode("utf-16")]
)
def test_input_12_other_encodings_than_utf_8_are_400(served: Served, body: bytes) -> None:
    refused(served, 400, body)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_input_13_another_media_type_is_415(served: Served, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    served.refused(415, url="/v1/jobs", content=spec(), headers=headers)
