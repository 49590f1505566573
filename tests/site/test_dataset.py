"""A site's CSV file through its adapter: what is read, and what is said about a file that cannot be."""

import gzip

import numpy as np
import pytest

from fedloom.errors import SiteDataError
from fedloom.site.dataset import CsvData
from fedloom.values import sha256
from tests.pipeline.tables import contract

CANARY = "CANARY-4711"
GOOD = b"age,kind,y\n30,p,no\n31,q,yes\n"


def data(tmp_path, content=GOOD, adapter="", name="rows.csv"):
    (tmp_path / "a.yaml").write_text(f"source: {name}\n{adapter}", encoding="utf-8")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    return CsvData(tmp_path / "a.yaml", contract())


def values(tmp_path, content, adapter=""):
    found = data(tmp_path, content, adapter).columns()
    return found.values["age"].tolist(), found.values["kind"].tolist(), found.values["y"].tolist()


@pytest.mark.parametrize(
    ("content", "adapter"),
    [
        (GOOD, ""),
        (b"\xef\xbb\xbf" + GOOD, ""),
        (GOOD.replace(b"\n", b"\r\n"), ""),
        (GOOD.replace(b"\n", b"\r"), ""),
        (GOOD.replace(b"\n", b"\n\n"), ""),
        (GOOD.replace(b",", b";"), 'delimiter: ";"'),
        (GOOD.replace(b",", b"\t"), 'delimiter: "\\t"'),
        (b" age , kind ,y\n 30 ,p, no\n31,q,yes\n", ""),
        (b'"age","kind","y"\n"30","p","no"\n"31","q","yes"\n', ""),
        (b"30,p,no\n31,q,yes\n", "header: [age, kind, y]"),
        (b"more,y,age,kind\n,no,30,p\n7,yes,31,q\n", ""),
        (b"years,kind,y\n30,p,0\n31,q,1\n", "columns: {age: {from: years}, y: {codes: {0: 'no', '1': 'yes'}}}"),
    ],
)
def test_the_same_rows_written_differently(tmp_path, content, adapter):
    """Line ends, byte order mark, delimiter, quotes, blanks, order, more columns, other names and codes."""
    assert values(tmp_path, content, adapter) == ([30, 31], [0, 1], [0, 1])


def test_words_for_no_value(tmp_path):
    """Blank, NA and ? are missing everywhere; a column may have words of its own."""
    content = b"age,kind,y\n,NA,no\n-9,?,yes\n"
    found = data(tmp_path, content, "columns: {age: {missing: ['-9']}}").columns()
    assert np.isnan(found.values["age"]).all()
    assert (found.counts["age"].missing, found.counts["kind"].missing, found.counts["age"].out_of_range) == (2, 2, 0)


def test_a_gzip_file_is_read_as_well(tmp_path):
    """The digest is of the bytes as they lie there; a broken one is named."""
    packed = gzip.compress(GOOD, mtime=0)
    found = data(tmp_path, packed, name="rows.csv.gz")
    assert found.columns().rows == 2
    assert found.digests()["data"] == sha256(packed)
    for broken in (packed[:-9], packed[:20] + b"\xff" * 9 + packed[29:], GOOD):
        with pytest.raises(SiteDataError, match=r"rows.csv.gz is no readable UTF-8 CSV file \(\w+\)"):
            data(tmp_path, broken, name="rows.csv.gz").columns()


def test_digests_name_both_files(tmp_path):
    """Adapter and data, each by its bytes."""
    found = data(tmp_path)
    assert found.digests() == {"adapter": sha256((tmp_path / "a.yaml").read_bytes()), "data": sha256(GOOD)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no file "),
        (b"", "rows.csv is empty"),
        (b"\n\n", "rows.csv is empty"),
        (b"age,kind,y\n30,p,no\n\n31,q\n", "line 4 has 2 fields, and there are 3 columns: check `delimiter` in "),
        (b'age,kind,y\n"3\n0",p,no\n31,q,yes,CANARY-4711\n', "line 4 has 4 fields"),
        (b"age,kind,y,age\n30,p,no,31\n", "has two columns 'age': rename one"),
        (b"age,kind,y\n30,CANARY-4711\xff,no\n", "is no readable UTF-8 CSV file (UnicodeDecodeError)"),
        (bytes(range(256)), "is no readable UTF-8 CSV file"),
        (b'age,kind,y\n30,"' + b"x" * 140_000 + b'",no\n', "line 2 is no CSV: check quotes and `delimiter`"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path, content, words):
    """Missing, empty, ragged, doubled, not UTF-8, binary, a quote that never ends: where it is, and no cell's value."""
    with pytest.raises(SiteDataError) as caught:
        data(tmp_path, content).columns()
    said = str(caught.value)
    assert words in said
    assert CANARY not in said
    assert len(said.splitlines()) == 1


def test_a_folder_in_place_of_the_file(tmp_path):
    """What cannot be read says why."""
    (tmp_path / "rows.csv").mkdir()
    with pytest.raises(SiteDataError, match=r"rows.csv cannot be read: Is a directory"):
        data(tmp_path, None).columns()
