"""DSSE envelopes: the specification's own vectors, round trips, and everything that is no envelope."""

import base64
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from fedloom.versions import dsse

TYPE, PAYLOAD = "http://example.com/HelloWorld", b"hello world"
X = 46950820868899156662930047687818585632848591499744589407958293238635476079160
Y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
SIGNED = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="


def test_pae_is_what_the_specification_signs():
    """The key and signature of the specification's test vector hold over our PAE, and over nothing near it."""
    key = ec.EllipticCurvePublicNumbers(X, Y, ec.SECP256R1()).public_key()
    raw = base64.b64decode(SIGNED)
    signature = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    key.verify(signature, dsse.pae(TYPE, PAYLOAD), ec.ECDSA(hashes.SHA256()))
    assert dsse.pae(TYPE, PAYLOAD) == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert dsse.pae("ü", b"") == "DSSEv1 2 ü 0 ".encode()


@given(st.text(), st.binary(), st.text(), st.binary())
def test_type_and_payload_cannot_be_traded(type_, payload, other_type, other):
    """Two different pairs of type and payload never give the same bytes to sign."""
    same = (type_, payload) == (other_type, other)
    assert (dsse.pae(type_, payload) == dsse.pae(other_type, other)) == same


@given(st.binary(), st.text(alphabet="abc/+ "), st.lists(st.tuples(st.text(), st.binary())))
def test_an_envelope_comes_back_from_its_json(payload, type_, signatures):
    """Writing and reading give the same envelope; the URL-safe alphabet reads the same."""
    envelope = dsse.Envelope(payload, type_, tuple(dsse.Signature(*one) for one in signatures))
    written = json.loads(json.dumps(envelope.as_json()))
    assert dsse.read_envelope(written) == envelope
    written["payload"] = written["payload"].replace("+", "-").replace("/", "_")
    assert dsse.read_envelope(written) == envelope


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"payload": "aGk=", "payloadType": "t"},
        {"payload": "aGk", "payloadType": "t", "signatures": []},
        {"payload": "a Gk=", "payloadType": "t", "signatures": []},
        {"payload": 7, "payloadType": "t", "signatures": []},
        {"payload": "aGk=", "payloadType": None, "signatures": []},
        {"payload": "aGk=", "payloadType": "t", "signatures": {}, "x": 1} | {"signatures": 3},
        {"payload": "aGk=", "payloadType": "t", "signatures": [{"keyid": "k"}]},
        {"payload": "aGk=", "payloadType": "t", "signatures": [{"keyid": 1, "sig": "aGk="}]},
        {"payload": "aGk=", "payloadType": "t", "signatures": ["aGk="]},
    ],
)
def test_what_is_no_envelope_is_refused(value):
    """A malformed envelope is a ValueError, whatever is wrong with it."""
    with pytest.raises(ValueError, match="no DSSE envelope"):
        dsse.read_envelope(value)


@pytest.mark.parametrize(
    ("payload", "type_"),
    [
        (b"not json", dsse.IN_TOTO),
        (b"[]", dsse.IN_TOTO),
        (b"[" * 100_000, dsse.IN_TOTO),
        (b"\xff", dsse.IN_TOTO),
        (json.dumps(dsse.statement([], "other", {})).encode(), dsse.IN_TOTO),
        (json.dumps(dsse.statement([], "wanted", {}) | {"_type": "v0"}).encode(), dsse.IN_TOTO),
        (json.dumps(dsse.statement([], "wanted", {}) | {"subject": 1}).encode(), dsse.IN_TOTO),
        (json.dumps(dsse.statement([], "wanted", {})).encode(), "text/plain"),
    ],
)
def test_a_payload_that_is_no_such_statement_is_refused(payload, type_):
    """Only an in-toto statement of the wanted kind is read."""
    with pytest.raises(ValueError, match=r"statement|payload type"):
        dsse.read_statement(dsse.Envelope(payload, type_, ()), "wanted")
    good = dsse.Envelope(json.dumps(dsse.statement([], "wanted", {})).encode(), dsse.IN_TOTO, ())
    assert dsse.read_statement(good, "wanted")["predicate"] == {}
