"""Object bytes: golden bytes of version 1, bit-exact round trips, and refusals."""

import hashlib
import json
from typing import get_args

import numpy as np
import pytest
import rfc8785
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.errors import CorruptObjectError, VersionsError
from fedloom.values import DTYPES, FLOATS, dtype_tag
from fedloom.versions import objects
from fedloom.versions.objects import Attestation, Commit, Conflict, Encoded, Entry, Input, Recipe, Tree

A, B, C, D = (letter * 64 for letter in "abcd")

GOLDEN = {
    "tensor": (
        objects.encode_tensor(np.array([[1, -2], [0.5, np.nan]], "<f4")),
        b'fedloom tensor v1\n{"dtype":"F32","shape":[2,2]}\n' + bytes.fromhex("0000803f000000c00000003f0000c07f"),
        "cb0d7bfebaffac0f6204d2c2d0230b1ee3b4dd5906b2eee0196512c816416d02",
    ),
    "blob": (
        objects.encode_blob(b"\x00\nbytes\xff"),
        b'fedloom blob v1\n{"size":8}\n\x00\nbytes\xff',
        "fdc154e894d122c3e43bdc26a69f35071fd25306d9466add19786ed3487af605",
    ),
    "tree": (
        objects.encode_tree(Tree({"b/é": Entry("tensor", A), "a": Entry("tree", B)})),
        f'fedloom tree v1\n{{"entries":[["a","tree","{B}"],["b/é","tensor","{A}"]]}}\n'.encode(),
        "68ed46cc7b680c024e6e871d3d99f9876d06fef2eb0696f35b274c312cdd0b8e",
    ),
    "commit": (
        objects.encode_commit(
            Commit(
                C, (D, "e" * 64), "round", "é\n", {"loss": 0.1, "epsilon": None, "big": 1e21, "ok": True, "zero": -0.0}
            )
        ),
        b'fedloom commit v1\n{"facts":{"big":1e+21,"epsilon":null,"loss":0.1,"ok":true,"zero":0},"kind":"round",'
        + f'"message":"é\\n","parents":["{D}","{"e" * 64}"],"tree":"{C}"}}\n'.encode(),
        "0a545003b769057b96f679c1bf1834fe9b5dfa5fa7ba5d43d75f3af2a67caab9",
    ),
    "attestation": (
        objects.encode_attestation(Attestation("f" * 64, "gate", {"passed": False})),
        f'fedloom attestation v1\n{{"body":{{"passed":false}},"subject":"{"f" * 64}","type":"gate"}}\n'.encode(),
        "171882fe0c270df38fe17635ca0d81a5443db4d6d705eb37d1c0116fdaf3af61",
    ),
    "conflict": (
        objects.encode_conflict(
            Conflict("model/w", "contested", Entry("tensor", A), (Entry("tensor", B), None), {"cos": [[1, 0.5]]})
        ),
        f'fedloom conflict v1\n{{"base":["tensor","{A}"],"heads":[["tensor","{B}"],null],"path":"model/w",'
        '"problem":"contested","stats":{"cos":[[1,0.5]]}}\n'.encode(),
        "960cb2e0b55de8b59d95acd82d8ce23d4d231441611818bc42e54681c29d0f61",
    ),
    "recipe": (
        objects.encode_commit(
            Commit(C, (D,), "round", "m", {}, Recipe("fold/1", {"use": "fedavg"}, (Input("north", A, 120.0),)))
        ),
        b'fedloom commit v1\n{"facts":{},"kind":"round","message":"m",'
        + f'"parents":["{D}"],"recipe":{{"algorithm":"fold/1","inputs":[["north","{A}",120]],'.encode()
        + f'"settings":{{"use":"fedavg"}}}},"tree":"{C}"}}\n'.encode(),
        "22cb8449df3e0d481b5ea2b440cd267841c37d952e32d55f3e4040ea17c0e1d4",
    ),
    "kept elsewhere": (
        objects.encode_tree(Tree({"north": Entry("tree", A, "promised"), "south": Entry("tree", B, "opaque")})),
        f'fedloom tree v1\n{{"entries":[["north","tree","{A}","promised"],'
        f'["south","tree","{B}","opaque"]]}}\n'.encode(),
        "6ee9c570995427c0599a423ac4b282fffeb7fe4cbd90ffb032d11c66bc807658",
    ),
}
"""By kind: an object of version 1, its bytes, and their SHA-256."""

DECODERS = {
    "tensor": (objects.decode_tensor, objects.encode_tensor),
    "blob": (objects.decode_blob, objects.encode_blob),
    "tree": (objects.decode_tree, objects.encode_tree),
    "commit": (objects.decode_commit, objects.encode_commit),
    "attestation": (objects.decode_attestation, objects.encode_attestation),
    "conflict": (objects.decode_conflict, objects.encode_conflict),
}
KINDS = sorted(DECODERS)

shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
arrays = st.one_of(
    st.sampled_from(sorted(DTYPES.keys() - FLOATS)).flatmap(lambda tag: hnp.arrays(DTYPES[tag], shapes)),
    # any bits at all: every NaN payload, signalling ones too, and -0.0
    st.sampled_from(sorted(FLOATS)).flatmap(
        lambda tag: hnp.arrays(f"<u{DTYPES[tag].itemsize}", shapes).map(lambda bits: bits.view(DTYPES[tag]))
    ),
)
names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8)
ids = st.text("0123456789abcdef", min_size=64, max_size=64)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
facts = st.dictionaries(names, json_values, max_size=4)
values = {
    "tree": st.builds(
        Tree,
        st.dictionaries(
            names,
            st.builds(
                Entry, st.sampled_from(["tensor", "tree"]), ids, st.sampled_from(["stored", "promised", "opaque"])
            ),
            max_size=4,
        ),
    ),
    "commit": st.builds(
        Commit,
        ids,
        st.lists(ids, max_size=3).map(tuple),
        st.sampled_from(["import", "train", "round", "merge", "revert"]),
        st.text(st.characters(exclude_categories=["Cs"])),
        facts,
        st.none()
        | st.builds(
            Recipe,
            names,
            facts,
            st.lists(st.builds(Input, names, ids, st.floats(0, allow_infinity=False)), max_size=2).map(tuple),
        ),
    ),
    "conflict": st.builds(
        Conflict,
        names,
        names,
        st.none() | st.builds(Entry, st.just("tensor"), ids),
        st.lists(st.none() | st.builds(Entry, st.just("tensor"), ids), max_size=3).map(tuple),
        facts,
    ),
    "attestation": st.builds(Attestation, ids, names, facts),
}


def whole(encoded: Encoded) -> bytes:
    return encoded.header + bytes(encoded.payload)


@pytest.mark.parametrize("kind", sorted(GOLDEN))
def test_golden_bytes(kind):
    """The bytes of version 1 do not change, and an id is the SHA-256 of all of them, uncompressed."""
    encoded, data, id_ = GOLDEN[kind]
    assert whole(encoded) == data
    assert encoded.id == id_ == hashlib.sha256(data).hexdigest()


@given(arrays)
@example(np.array([0x7FA00001, 0xFFC12345, 0x80000000], "<u4").view("<f4"))
@example(np.zeros((0, 3), "<f8"))
@example(np.array(7, "<i8"))
def test_a_tensor_comes_back_bit_for_bit(array):
    """Every dtype, NaN payload, negative zero, empty and 0-d array survives, and encoding it again gives its id."""
    encoded = objects.encode_tensor(array)
    back = objects.decode_tensor(whole(encoded))
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert objects.encode_tensor(back).id == encoded.id


@given(arrays)
def test_memory_layout_does_not_change_an_id(array):
    """Big-endian, Fortran-ordered, reversed and strided arrays of the same numbers are the same object."""
    id_ = objects.encode_tensor(array).id
    assert objects.encode_tensor(array.astype(array.dtype.newbyteorder(">"))).id == id_
    assert objects.encode_tensor(np.array(array, order="F")).id == id_
    strided = np.repeat(array[..., None], 2, axis=-1)[..., 0]
    assert objects.encode_tensor(strided).id == id_
    if array.ndim:
        assert objects.encode_tensor(np.ascontiguousarray(array[::-1])[::-1]).id == id_


@given(arrays.filter(lambda array: array.size > 0), st.data())
def test_one_changed_bit_changes_the_id(array, data):
    """The least change there is - one unit in the last place, a zero's sign - makes another object."""
    changed = array.copy()
    flat = changed.reshape(-1).view(np.uint8)
    flat[data.draw(st.integers(0, len(flat) - 1))] ^= 1
    assert objects.encode_tensor(changed).id != objects.encode_tensor(array).id


def test_what_looks_alike_has_its_own_id():
    """One unit in the last place, -0.0, another dtype and another shape each make another object."""
    one = np.array([1.0, 0.0])
    others = [
        np.array([np.nextafter(1.0, 2.0), 0.0]),
        np.array([1.0, -0.0]),
        one.astype(np.float32),
        one.astype(np.int64),
        one.reshape(1, 2),
        np.float64(1.0),
        np.zeros((0, 2)),
        np.zeros((2, 0)),
    ]
    assert len({objects.encode_tensor(array).id for array in [one, *others]}) == 1 + len(others)


def test_a_decoded_tensor_is_a_read_only_view():
    """Decoding copies nothing, and nobody can change what is stored under an id."""
    tensor = objects.decode_tensor(whole(objects.encode_tensor(np.arange(1000.0))))
    assert not tensor.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        tensor[0] = 1


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array([None]), np.zeros(1, "M8[s]")])
def test_other_element_types_are_refused(array):
    """Text, complex numbers, objects and times have no form here; the message lists what has."""
    with pytest.raises(TypeError, match="cannot be stored or sent; use one of BOOL, U8"):
        objects.encode_tensor(array)


@given(st.sampled_from(sorted(values)).flatmap(lambda kind: values[kind].map(lambda value: (kind, value))))
@example(("commit", Commit(A, (), "import", "", {"large": 1e20, "exact": 2.0**53, "edge": 2**53 - 1})))
def test_trees_commits_and_attestations_come_back(given_):
    """Decoding gives an equal value, which encodes to the same bytes: facts can be copied from commit to commit."""
    kind, value = given_
    decode, encode = DECODERS[kind]
    encoded = encode(value)
    back = decode(whole(encoded))
    assert back == value
    assert encode(back) == encoded


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_of_any_kind_is_read_without_being_told_its_kind(kind):
    """Kind and value, as the decoder of that kind gives it; every kind has one."""
    data = whole(GOLDEN[kind][0])
    found, value = objects.decode(data)
    assert found == kind
    assert DECODERS[kind][1](value) == DECODERS[kind][1](DECODERS[kind][0](data))
    assert sorted(objects.DECODERS) == KINDS == sorted(get_args(objects.Kind))
    with pytest.raises(CorruptObjectError):
        objects.decode(data[:10])


@given(st.binary(max_size=300))
def test_blobs_come_back(data):
    """Any bytes can be a blob, even those of an object."""
    encoded = objects.encode_blob(data)
    assert objects.decode_blob(whole(encoded)) == data
    assert objects.decode_blob(whole(objects.encode_blob(whole(encoded)))) == whole(encoded)


def test_order_of_names_carries_no_meaning():
    """Entries and facts in any order are the same object."""
    entries = {name: Entry("tensor", A) for name in ("b", "a", "ä", "B")}
    assert objects.encode_tree(Tree(entries)) == objects.encode_tree(Tree(dict(reversed(entries.items()))))
    one, other = {"x": 1, "y": {"p": 2, "q": 3}}, {"y": {"q": 3, "p": 2}, "x": 1}
    assert objects.encode_commit(Commit(A, (), "merge", "", one)) == objects.encode_commit(
        Commit(A, (), "merge", "", other)
    )


def test_order_of_parents_carries_meaning():
    """The base is the first parent."""
    one, other = Commit(A, (B, C), "merge", "m"), Commit(A, (C, B), "merge", "m")
    assert objects.encode_commit(one).id != objects.encode_commit(other).id


@pytest.mark.parametrize("name", ["layers.0/weight", "größe", "一层", ".", "..", "a b", "/", "a\u2028b", "😀"])
def test_a_tree_holds_any_visible_name(name):
    """Names are text, not paths: dots, slashes, accents and other scripts are letters."""
    tree = Tree({name: Entry("tensor", A)})
    assert objects.decode_tree(whole(objects.encode_tree(tree))) == tree


@pytest.mark.parametrize("name", ["", "a\nb", "\x00", "tab\t", "del\x7f", "next\x85line", "\ud800"])
def test_a_tree_refuses_empty_and_control_names(name):
    """Whatever could garble a terminal or a line is refused before it is stored."""
    with pytest.raises(VersionsError, match="a tree cannot hold the name"):
        objects.encode_tree(Tree({name: Entry("tensor", A)}))


def test_equal_numbers_are_equal_facts():
    """1 and 1.0, 0 and -0.0 are one JSON number each; floats keep every digit that counts."""
    one = {"n": 1, "zero": 0, "third": 1 / 3}
    other = {"n": 1.0, "zero": -0.0, "third": float("0.3333333333333333")}
    first, second = (objects.encode_commit(Commit(A, (), "round", "", told)) for told in (one, other))
    assert first == second
    assert objects.decode_commit(whole(first)).facts["third"] == 1 / 3


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"metrics": {"pooled": [1.0, {"loss": float("nan")}]}}, r"facts\.metrics\.pooled\.1\.loss"),
        ({"loss": float("inf")}, r"facts\.loss"),
        ({"seed": 2**53}, r"facts\.seed"),
        ({"site": np.float32(1.0)}, r"facts\.site"),
        ({"keys": {3: "three"}}, r"facts\.keys"),
        ({"text": "\ud800"}, r"facts\.text"),
    ],
)
def test_facts_json_cannot_hold_are_refused_by_name(value, where):
    """NaN, infinity, integers beyond 2^53, numpy scalars and other keys than text are refused, saying where."""
    with pytest.raises(VersionsError, match=f"^{where} cannot be stored: JSON holds finite numbers"):
        objects.encode_commit(Commit(A, (), "round", "", value))
    with pytest.raises(VersionsError, match="cannot be stored"):
        objects.encode_attestation(Attestation(A, "t", value))
    with pytest.raises(VersionsError, match="cannot be stored"):
        objects.encode_json(value)


def test_a_value_json_cannot_hold_is_refused():
    """A lone NaN has no place to name."""
    with pytest.raises(VersionsError, match=r"^this value cannot be stored"):
        objects.encode_json(float("nan"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a fedloom object"),
        (b"\n", "not a fedloom object"),
        (b"fedloom", "not a fedloom object"),
        (b"FLMS\x01" + bytes(400), "not a fedloom object"),
        (b'{"__metadata__":{}}\n', "not a fedloom object"),
        (b"\xff\xfe commit v1\n{}\n", "not a fedloom object"),
        (b"fedloom commit v2\n{}\n", "object format 'commit v2' is unknown to this fedloom: upgrade"),
        (b"fedloom tree v1\n{}\n", "expected a commit, found a tree: check the id"),
        (b"fedloom attestation v1\n{}\n", "expected a commit, found an attestation"),
        (b"fedloom commit v1\n", "not a fedloom object"),
        (b"fedloom commit v1\n\n", "a commit is corrupt"),
        (b"fedloom commit v1\n[]\n", "a commit is corrupt"),
        (b"fedloom dataset v1\n{}\n", "object format 'dataset v1' is unknown to this fedloom: upgrade"),
        (b"fedloom commit v1\n{}\n", "a commit is corrupt: its header must hold tree, parents"),
        (b"fedloom commit v1\n" + b"[" * 5000 + b"\n", "a commit is corrupt"),
        (b"fedloom commit v1\n" + b"9" * 9000 + b"\n", "a commit is corrupt"),
    ],
)
def test_foreign_bytes_are_refused_with_a_sentence(data, words):
    """Other files, later versions, other kinds and empty files are refused, each in its words."""
    with pytest.raises(CorruptObjectError, match=words):
        objects.decode_commit(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (GOLDEN["tree"][1].replace(b'"tensor"', b'"dataset"'), "an entry of kind 'dataset'"),
        (GOLDEN["kept elsewhere"][1].replace(b'"opaque"', b'"sealed"'), "an entry that is 'sealed'"),
        (GOLDEN["commit"][1].replace(b'"facts"', b'"extra":1,"facts"'), "field 'extra'"),
        (GOLDEN["commit"][1].replace(b'"round"', b'"rebase"'), "a commit of kind 'rebase'"),
        (GOLDEN["tensor"][1].replace(b'"F32"', b'"F4"'), "dtype 'F4'"),
    ],
)
def test_what_a_newer_fedloom_wrote_is_not_called_corrupt(data, what):
    """Unknown kinds, dtypes and fields in whole objects ask for an upgrade, not for a copy."""
    kind = objects.kind_of(data)
    with pytest.raises(CorruptObjectError, match=f"^an? {kind}: {what} is unknown to this fedloom: upgrade fedloom$"):
        DECODERS[kind][0](data)


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_is_refused(kind):
    """An object cut anywhere is refused as corrupt, by its own reader and without its id."""
    data = GOLDEN[kind][1]
    for end in range(len(data)):
        with pytest.raises(CorruptObjectError):
            DECODERS[kind][0](data[:end])


@given(st.sampled_from(KINDS), st.integers(0, 10**6), st.binary(max_size=3), st.integers(0, 3))
def test_changed_bytes_are_refused_or_are_another_whole_object(kind, position, put, skip):
    """Whatever bytes are replaced: there is a value whose bytes these are, or they are corrupt; nothing between."""
    data = GOLDEN[kind][1]
    position %= len(data) + 1
    _refused_or_canonical(kind, data[:position] + put + data[position + skip :])


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(["dtype", "size", "tree", "x"]), json_values))
@example("tensor", {"dtype": "F32", "shape": [True, 1]})
@example("tensor", {"dtype": "F32", "shape": [-1, -1]})
@example("tensor", {"dtype": "F32", "shape": [1.5]})
@example("tensor", {"dtype": "F32", "shape": {"1": 1}})
@example("tensor", {"dtype": "F32", "shape": 1})
@example("tensor", {"dtype": "C64", "shape": [1]})
@example("tensor", {"dtype": ["F32"], "shape": [1]})
@example("blob", {"size": 4, "name": "x"})
@example("blob", {"size": "4"})
@example("tree", {"entries": [["b", "blob", A], ["a", "blob", A]]})
@example("tree", {"entries": [["a", "blob", A], ["a", "blob", B]]})
@example("tree", {"entries": [["a", "secret", A]]})
@example("tree", {"entries": [["a", "blob", "A"]]})
@example("tree", {"entries": [["", "blob", A]]})
@example("tree", {"entries": [[1, "blob", A]]})
@example("tree", {"entries": [["a", "blob"]]})
@example("tree", {"entries": {"abc": 1}})
@example("commit", {"tree": A, "parents": "", "kind": "round", "message": "", "facts": {}})
@example("commit", {"tree": A, "parents": [3], "kind": "round", "message": "", "facts": {}})
@example("commit", {"tree": None, "parents": [], "kind": "round", "message": "", "facts": {}})
@example("commit", {"tree": A, "parents": [], "kind": "?", "message": "", "facts": {}})
@example("commit", {"tree": A, "parents": [], "kind": "round", "message": 1, "facts": {}})
@example("commit", {"tree": A, "parents": [], "kind": "round", "message": "", "facts": []})
@example("attestation", {"subject": "x", "type": "gate", "body": {}})
@example("attestation", {"subject": A, "type": None, "body": {}})
def test_a_wrong_header_is_refused(kind, header):
    """Any JSON in an object's header is refused unless it says exactly what that kind says."""
    for payload in (b"", b"1234"):
        data = f"fedloom {kind} v1\n".encode() + rfc8785.dumps(header) + b"\n" + payload
        assume(kind != "blob" or header != {"size": len(payload)})
        with pytest.raises(CorruptObjectError):
            DECODERS[kind][0](data)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [lambda line: b" " + line, lambda line: json.dumps(json.loads(line)).encode()])
def test_one_value_has_one_form(kind, change):
    """A header with other spaces or escapes says the same but is not canonical: two ids for one value cannot be."""
    magic, line, payload = GOLDEN[kind][1].split(b"\n", 2)
    with pytest.raises(CorruptObjectError, match="canonical"):
        DECODERS[kind][0](b"\n".join([magic, change(line), payload]))


def _refused_or_canonical(kind: str, data: bytes) -> None:
    decode, encode = DECODERS[kind]
    try:
        value = decode(data)
    except CorruptObjectError:
        return
    assert whole(encode(value)) == data


def test_every_dtype_has_a_tag():
    """Arrays made under numpy's other names for a type have the same tag."""
    for tag, dtype in DTYPES.items():
        assert dtype_tag(np.zeros(1, dtype)) == tag
    assert dtype_tag(np.zeros(1, np.longlong)) == "I64"
    assert dtype_tag(np.zeros(1, np.ulonglong)) == "U64"
