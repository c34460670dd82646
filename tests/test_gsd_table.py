"""Schemas, and tables between files and codes."""

import csv
import json
import os
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evolve.gsd.columns import category, integer, real
from evolve.gsd.example import example_codes, example_schema
from evolve.gsd.files import check_output
from evolve.gsd.infer import infer_schema
from evolve.gsd.schema import Schema, read_schema, schema_of
from evolve.gsd.table import read_table, write_table
from zoo.errors import InputError, RunError

PEOPLE = {
    "schema": {
        "AGE": {"dtype": "int64", "min": 0, "max": 94},
        "SEX": {"dtype": "int64", "values": [1, 2]},
        "MSP": {
            "has_null": True,
            "null_value": "N",
            "dtype": "object",
            "values": ["N", "1", "2", "3"],
        },
        "INCOME": {
            "has_null": True,
            "null_value": "N",
            "dtype": "object",
            "min": -4600,
            "max": 1341000,
        },
        "DENSITY": {"dtype": "float64", "min": 16, "max": 3683},
    }
}
HEADER = "AGE,SEX,MSP,INCOME,DENSITY\n"


def read(tmp_path, text, clip=False, schema=None, name="people.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(str(path), schema or schema_of(PEOPLE), clip)


def one(column):
    return Schema((column,))


def test_nist_schema():
    schema = schema_of(PEOPLE)
    assert schema.names == ("AGE", "SEX", "MSP", "INCOME", "DENSITY")
    assert schema.sizes.tolist() == [95, 2, 4, 1025, 1024]
    assert [c.kind for c in schema.columns] == ["integer", *["category"] * 2, "integer", "real"]
    assert [c.ordered for c in schema.columns] == [True, False, False, True, True]
    assert schema.column("SEX").labels == ("1", "2")
    assert schema.column("SEX").whole
    assert not schema.column("MSP").whole
    assert schema.column("MSP").labels == ("1", "2", "3")  # the null is no label
    assert (schema.column("MSP").null, schema.column("AGE").null) == ("N", None)
    assert schema_of(PEOPLE["schema"]) == schema
    with pytest.raises(InputError, match="did you mean 'INCOME'"):
        schema.column("INCOM")


def test_coded_schema():
    schema = schema_of({"age": 85, "income>50K": 2, "schema": 3})
    assert schema.sizes.tolist() == [85, 2, 3]
    assert schema.column("schema").labels == ("0", "1", "2")
    assert schema_of({"schema": {"dtype": "int8", "min": 1, "max": 9}}).sizes.tolist() == [9]


def test_dtype_object_is_integer_only_with_whole_bounds_and_no_decimals():
    def kind(**entry):
        return schema_of({"x": {"dtype": "object", **entry}}).columns[0].kind

    assert kind(min=0, max=5) == kind(min=0.0, max=5.0) == "integer"
    assert kind(min=0, max=5.5) == kind(min=0, max=5, decimals=2) == "real"


def test_nulls_are_empty_cells_by_default():
    for entry in ({"has_null": True}, {"null_value": None}):
        assert schema_of({"x": {"min": 0, "max": 5, **entry}}).columns[0].null == ""
    assert schema_of({"x": {"min": 0, "max": 5, "null_value": -1}}).columns[0].null == "-1"
    assert schema_of({"x": {"values": [1, -1], "null_value": -1}}).columns[0].labels == ("1",)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ([], "must be an object of columns"),
        ({}, "at least one column"),
        ({"schema": {}}, "at least one column"),
        ({"schema": {"x": 3}, "y": 4}, "unknown key 'y' beside 'schema'"),
        ({"": 3}, "no name"),
        ({"x": 0}, "size must be from 1 to 1000000, got 0"),
        ({"x": 10**9}, "size must be"),
        ({"x": True}, "must be an object"),
        ({"x": "int"}, "must be an object"),
        ({"x": {}}, "must have values, or min and max"),
        ({"x": {"min": 1}}, "no max"),
        ({"x": {"min": 1, "max": 2, "mni": 3}}, "unknown key 'mni': did you mean 'min'"),
        ({"x": {"dtype": "datetime64", "min": 1, "max": 2}}, "dtype must be"),
        ({"x": {"dtype": 3, "min": 1, "max": 2}}, "dtype must be"),
        ({"x": {"values": []}}, "at least one besides the null"),
        ({"x": {"values": ["N"], "null_value": "N"}}, "at least one besides the null"),
        ({"x": {"values": "abc"}}, "must be a list"),
        ({"x": {"values": ["a", "b", "a"]}}, "value 'a' is there twice"),
        ({"x": {"values": [1, "1"]}}, "value '1' is there twice"),
        ({"x": {"values": [None]}}, "must be a text or a number"),
        ({"x": {"values": [True]}}, "must be a text or a number"),
        ({"x": {"values": [float("nan")]}}, "must be finite"),
        ({"x": {"values": ["a\nb"]}}, "CSV does not keep"),
        ({"x": {"values": ["\ud800"]}}, "CSV does not keep"),
        ({"x\n": 3, "y": 2}, "CSV does not keep"),
        ({"x": {"dtype": "int64", "values": [1, "b"]}}, "'b' is no whole number"),
        ({"x": {"dtype": "int64", "values": ["01"]}}, "'01' is no whole number"),
        ({"x": {"values": [1], "min": 1}}, "go without min"),
        ({"x": {"min": 2, "max": 1}}, "is above max"),
        ({"x": {"min": 2.5, "max": 1}}, "is above max"),
        ({"x": {"min": float("nan"), "max": 1}}, "min must be a finite number, got nan"),
        ({"x": {"min": 0, "max": float("inf")}}, "max must be a finite number"),
        ({"x": {"min": 0, "max": 10**400}}, "max must be a finite number"),
        ({"x": {"min": "0", "max": 1}}, "min must be a finite number, got '0'"),
        ({"x": {"min": False, "max": 1}}, "min must be a finite number"),
        ({"x": {"dtype": "int64", "min": 0.5, "max": 1}}, "must be whole"),
        ({"x": {"min": 0, "max": 10**16}}, "within"),
        ({"x": {"dtype": "float64", "min": 0, "max": 1e18}}, "digits"),
        ({"x": {"dtype": "float64", "min": 0, "max": 1e-20}}, "digits"),
        ({"x": {"dtype": "float64", "min": 0, "max": 0.25, "decimals": 1}}, "from 2 to 15"),
        ({"x": {"dtype": "float64", "min": 0, "max": 100, "decimals": 14}}, "from 0 to 13"),
        ({"x": {"min": 0, "max": 1, "decimals": -1}}, "decimals must be a whole number"),
        ({"x": {"dtype": "int64", "min": 0, "max": 1, "decimals": 2}}, "have no decimals"),
        ({"x": {"min": 0, "max": 9, "bins": 11}}, "bins must be from 1 to 10, got 11"),
        ({"x": {"min": 0, "max": 9, "bins": 0}}, "bins must be from 1 to 10, got 0"),
        ({"x": {"dtype": "float", "min": 0, "max": 0.9, "bins": 0}}, "bins must be"),
        ({"x": {"min": 0, "max": 9, "has_null": 1}}, "has_null must be true or false"),
        ({"x": {"min": 0, "max": 9, "has_null": False, "null_value": "N"}}, "is false"),
        ({"x": {"min": 0, "max": 99, "null_value": 99}}, "null '99' is a number between"),
        ({"x": {"min": 0, "max": 99, "null_value": "9.0"}}, "null '9.0' is a number between"),
    ],
)
def test_odd_schemas_are_refused(content, rule):
    with pytest.raises(InputError, match=rule) as caught:
        schema_of(content)
    assert "\n" not in str(caught.value)
    if isinstance(content, dict) and "x" in content and "schema" not in content:
        assert "column 'x'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (b"{", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"x": 3, "x": 4}', "'x' is there twice"),
        (b'{"x": {"min": NaN, "max": 1}}', "min must be a finite number"),
    ],
)
def test_odd_schema_files_are_refused(tmp_path, text, rule):
    path = tmp_path / "s.json"
    path.write_bytes(text)
    with pytest.raises(InputError, match=rule) as caught:
        read_schema(str(path))
    assert str(caught.value).startswith(str(path))


def test_schema_files(tmp_path):
    path = tmp_path / "s.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(PEOPLE).encode())
    assert read_schema(str(path)) == schema_of(PEOPLE)
    assert read_schema(str(path), 64).sizes.tolist() == [64, 2, 4, 65, 64]
    for resolution in (0, 1.5, 10**7):
        with pytest.raises(InputError, match="resolution"):
            read_schema(str(path), resolution)
    with pytest.raises(InputError, match="No such file"):
        read_schema(str(tmp_path / "none.json"))
    with pytest.raises(InputError, match="cannot read"):
        read_schema(str(tmp_path))


@pytest.mark.parametrize("resolution", [16, 1024])
def test_description_makes_an_equal_schema(resolution):
    schema = schema_of(PEOPLE, resolution)
    assert schema_of(json.loads(json.dumps(schema.describe()))) == schema
    assert schema_of(example_schema().describe(), 7) == example_schema()


def test_edges():
    ages = integer("x", 0, 94)
    assert np.array_equal(ages.edges, np.arange(96))
    assert ages.codes(np.array([0.0, 1.0, 94.0])).tolist() == [0, 1, 94]
    incomes = integer("x", -9000, 1327000)
    assert (incomes.edges[0], incomes.edges[-1]) == (-9000, 1327001)
    assert set(np.diff(incomes.edges)) == {1304, 1305}
    density = real("x", 16, 52864)
    assert (density.edges[0], density.edges[-1], density.decimals) == (16, 52864, 1)
    assert np.ptp(np.diff(density.edges)) < 0.11
    assert density.codes(density.edges).tolist() == [*range(1024), 1023]  # half-open, last closed
    assert real("x", 2.5, 2.5).edges.tolist() == [2.5, 2.5]
    assert real("x", 0, 0.3, decimals=1).edges.tolist() == [0, 0.1, 0.2, 0.3]
    assert integer("x", -(10**15), 10**15).edges[-1] == 10**15 + 1


def bounds_of_reals(decimals):
    units = st.integers(-(10**15), 10**15) | st.integers(-2000, 2000)
    return st.tuples(units, units).map(lambda pair: [k / 10.0**decimals for k in sorted(pair)])


@st.composite
def columns(draw, name):
    text = st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\ufeff"), max_size=5
    )
    kind = draw(st.sampled_from(["category", "whole", "integer", "real"]))
    if kind in ("category", "whole"):
        words = text if kind == "category" else st.integers(-50, 50).map(str)
        labels = draw(st.lists(words, min_size=1, max_size=6, unique=True))
        null = draw(st.none() | text)
        return category(name, labels, None if null in labels else null, kind == "whole")
    null = draw(st.sampled_from([None, "", " ", "N", "nan", "1e99", '"', ","]))
    resolution = draw(st.integers(1, 40) | st.just(1024))
    if kind == "integer":
        lower, upper = draw(bounds_of_reals(0))
        return integer(name, lower, upper, null, resolution=resolution)
    decimals = draw(st.integers(0, 15))
    lower, upper = draw(bounds_of_reals(decimals))
    largest = max(abs(lower), abs(upper), 1)
    given = draw(st.booleans()) and largest * 10.0**decimals <= 10**15
    return real(name, lower, upper, null, None, decimals if given else None, resolution)


@st.composite
def tables(draw):
    names = draw(
        st.lists(
            st.text(
                st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\ufeff"),
                min_size=1,
                max_size=4,
            ),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    schema = Schema(tuple(draw(columns(name)) for name in names))
    rows = draw(st.integers(1, 8))
    cells = [
        draw(st.lists(st.integers(0, n - 1), min_size=rows, max_size=rows)) for n in schema.sizes
    ]
    return schema, np.array(cells, np.int32).T


@settings(max_examples=300, deadline=None)
@given(tables(), st.integers(0, 2**64))
def test_what_was_written_to_csv_is_read_as_the_same_codes(tmp_path_factory, table, seed):
    schema, codes = table
    path = tmp_path_factory.getbasetemp() / "round.csv"
    write_table(str(path), schema, codes, seed)
    found = read_table(str(path), schema)
    assert found.dtype == np.int32
    assert np.array_equal(found, codes)
    assert np.array_equal(read_table(str(path), schema, clip=True), codes)
    assert schema_of(json.loads(json.dumps(schema.describe()))) == schema
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    for j, column in enumerate(schema.columns):
        if column.ordered:
            texts = [row[j] for row, code in zip(rows, codes, strict=True) if code[j] < column.bins]
            assert all(column.lower <= float(text) <= column.upper for text in texts)
            assert all(len(text.partition(".")[2]) == column.decimals for text in texts)


@settings(max_examples=100, deadline=None)
@given(tables(), st.integers(0, 2**64))
def test_what_was_written_to_parquet_is_read_as_the_same_codes(tmp_path_factory, table, seed):
    pytest.importorskip("pyarrow")
    schema, codes = table
    path = str(tmp_path_factory.getbasetemp() / "round.parquet")
    write_table(path, schema, codes, seed)
    assert np.array_equal(read_table(path, schema), codes)


@settings(max_examples=200, deadline=None)
@given(columns("x"))
def test_every_bin_can_be_written(column):
    if not column.ordered:
        return
    edges = column.edges
    assert (edges[0], edges[-1]) == (column.lower, column.upper + (column.kind == "integer"))
    assert np.array_equal(column.codes(edges[:-1]), np.arange(column.bins))
    if column.lower < column.upper:
        assert (np.diff(column.units) > 0).all()
    assert np.ptp(np.diff(column.units)) <= 1


def test_numbers_fill_their_bins_evenly(tmp_path):
    path = str(tmp_path / "x.csv")
    schema = one(integer("x", 1, 10, bins=2))
    write_table(path, schema, np.zeros((5000, 1), np.int32), 1)
    values = np.loadtxt(path, skiprows=1, dtype=int)
    assert np.bincount(values)[1:].min() > 850
    assert set(values) == {1, 2, 3, 4, 5}
    schema = one(real("x", 0, 1, bins=2, decimals=1))
    write_table(path, schema, np.ones((3000, 1), np.int32), 1)
    assert set(np.loadtxt(path, skiprows=1)) == {0.5, 0.6, 0.7, 0.8, 0.9, 1.0}


def test_the_seed_makes_the_file(tmp_path):
    schema, codes = example_schema(), example_codes(50)
    texts = []
    for seed in (1, 1, 2):
        write_table(str(tmp_path / "x.csv"), schema, codes, seed)
        texts.append((tmp_path / "x.csv").read_text())
    assert texts[0] == texts[1] != texts[2]


def test_cells_as_files_have_them(tmp_path):
    text = (
        "DENSITY,extra,SEX,AGE, INCOME,MSP\n"  # any order, more columns, a blank
        "16,x,1,0,N,N\n"
        "3683,x,2.0,94.0,-4600.0,3\n"
        "\n"
        '1.6e1, x, 1 , 3 ," N", 2\n'
    )
    top = schema_of(PEOPLE).column("DENSITY").bins - 1
    expected = [[0, 0, 3, 1024, 0], [94, 1, 2, 0, top], [3, 0, 1, 1024, 0]]
    for encoding in ("utf-8", "utf-8-sig"):
        assert read(tmp_path, text.encode(encoding)).tolist() == expected
    assert read(tmp_path, text.replace("\n", "\r\n")).tolist() == expected


def test_a_numeric_null_is_a_number_too(tmp_path):
    schema = one(integer("x", 0, 9, null="-1"))
    assert read(tmp_path, "x\n-1\n-1.0\n3\n", schema=schema).ravel().tolist() == [10, 10, 3]


def test_labels_are_texts_first(tmp_path):
    schema = one(category("x", ["1", " 1", "01", "1.0"]))
    assert read(tmp_path, "x\n01\n 1\n1.0\n1\n", schema=schema).ravel().tolist() == [2, 1, 3, 0]


@pytest.mark.parametrize(
    ("row", "rule", "clipped"),
    [
        ("95,1,1,5,20", "'AGE': 95 is not within 0 to 94", [94, 0, 0, 3, 1]),
        ("-1,1,1,5,20", "'AGE': -1 is not within 0 to 94", [0, 0, 0, 3, 1]),
        ("0,1,1,5,3683.9", "'DENSITY': 3683.9 is not within 16 to 3683", [0, 0, 0, 3, 1023]),
        ("0,1,1,inf,20", "'INCOME': inf is not within -4600 to 1341000", [0, 0, 0, 1023, 1]),
        ("0,1,9,5,20", "'MSP': '9' is not among the values '1', '2', '3'", [0, 0, 3, 3, 1]),
        ("0,1,,5,20", "'MSP': '' is not among", [0, 0, 3, 3, 1]),
        ("0,1,1,abc,20", "'INCOME': 'abc' is no number", [0, 0, 0, 1024, 1]),
        ("0,1,1,nan,20", "'INCOME': 'nan' is no number", [0, 0, 0, 1024, 1]),
        ("0,1,1,1_0,20", "'INCOME': '1_0' is no number", [0, 0, 0, 1024, 1]),
        ("0,1,1,5.5,20", "'INCOME': '5.5' is no whole number", [0, 0, 0, 1024, 1]),
        ("0,3,1,5,20", "'SEX': '3' is not among", None),  # no null there
        ("0,1,1,5,", "'DENSITY': '' is no number", None),
        ("0.5,1,1,5,20", "'AGE': '0.5' is no whole number", None),
    ],
)
def test_values_outside_the_schema(tmp_path, row, rule, clipped):
    text = HEADER + "0,1,1,0,16\n0,1,1,0,16\n" + row + "\n" + row + "\n"
    with pytest.raises(InputError, match="row 3, column ") as caught:
        read(tmp_path, text)
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)
    if clipped is None:
        with pytest.raises(InputError, match="row 3, column "):
            read(tmp_path, text, clip=True)
    else:
        codes = read(tmp_path, text, clip=True)[3]
        density = schema_of(PEOPLE).column("DENSITY")
        clipped[4] = clipped[4] if clipped[4] > 1 else int(density.codes(np.array([20.0]))[0])
        assert codes.tolist() == clipped


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (b"", "must begin with a header"),
        (b"\n\n", "must begin with a header"),
        (HEADER, "has no rows"),
        (HEADER + "\n\n", "has no rows"),
        ("AGE,SEX,MSP,INCOME\n0,1,1,0\n", "no column 'DENSITY' of the schema; it has 'AGE', 'SEX'"),
        ("AGE;SEX;MSP;INCOME;DENSITY\n", "no column 'AGE' of the schema; it has 'AGE;SEX"),
        ("AGE," + HEADER + "0,0,1,1,0,16\n", "two columns 'AGE'"),
        (HEADER + "0,1,1,0,16\n\n0,1,1,0\n", "line 4: 4 cells, where the header has 5"),
        (HEADER + "0,1,1,0,16,\n", "line 2: 6 cells"),
        (HEADER + '0,1,"1\n\n1",0,16\n0,1,1,0\n', "line 5: 4 cells"),
        (HEADER + '0,1,1,0,"16\n', "unexpected end of data"),
        (HEADER + "0,1,1,0," + "9" * 200_000 + "\n", "field larger than"),
        (HEADER.encode() + b"0,1,\xe9,0,16\n", "not UTF-8"),
        (HEADER.encode("utf-16"), "not UTF-8"),
    ],
)
def test_unusable_files(tmp_path, text, rule):
    with pytest.raises(InputError, match=rule) as caught:
        read(tmp_path, text)
    assert "people.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_table(str(tmp_path / "none.csv"), schema_of(PEOPLE))
    with pytest.raises(InputError, match="cannot read"):
        read_table(str(tmp_path), schema_of(PEOPLE))


def test_rows_of_many_chunks(tmp_path):
    schema = one(integer("x", 0, 49_999, resolution=50_000))
    codes = np.random.default_rng(1).permutation(50_000).astype(np.int32)[:, None]
    write_table(str(tmp_path / "x.csv"), schema, codes, 0)
    assert np.array_equal(read_table(str(tmp_path / "x.csv"), schema), codes)
    with (tmp_path / "x.csv").open("a") as file:
        file.write("50000\n")
    with pytest.raises(InputError, match="row 50001, column 'x': 50000 is not within"):
        read_table(str(tmp_path / "x.csv"), schema)


def test_outputs_that_cannot_be_written(tmp_path, monkeypatch):
    schema, codes = example_schema(), example_codes(3)
    with pytest.raises(InputError, match="no folder"):
        write_table(str(tmp_path / "none" / "x.csv"), schema, codes, 0)
    with pytest.raises(InputError, match="is a folder"):
        check_output(str(tmp_path))
    for wrong in (codes[:, :3], codes[:0], codes[0], codes - 1, codes + 99):
        with pytest.raises(InputError, match="codes must be"):
            write_table(str(tmp_path / "x.csv"), schema, wrong, 0)

    (tmp_path / "x.csv").write_text("before")
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(RunError, match="No space left"):
        write_table(str(tmp_path / "x.csv"), schema, codes, 0)
    assert (tmp_path / "x.csv").read_text() == "before"
    assert os.listdir(tmp_path) == ["x.csv"]


def _full(_):
    raise OSError(28, "No space left on device")


def test_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    schema, codes = example_schema(), example_codes(3)
    path = str(tmp_path / "x.parquet")
    for act in (
        lambda: check_output(path),
        lambda: read_table(path, schema),
        lambda: write_table(path, schema, codes, 0),
    ):
        with pytest.raises(InputError, match=r"pip install 'zoo-engine\[parquet\]'"):
            act()
    assert os.listdir(tmp_path) == []


def test_types_in_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    schema = schema_of(PEOPLE)
    path = str(tmp_path / "x.parquet")
    codes = np.array([[3, 1, 3, 1024, 5], [4, 0, 2, 7, 6]], np.int32)
    write_table(path, schema, codes, 0)
    table = pyarrow.parquet.read_table(path)
    assert [str(kind) for kind in table.schema.types] == [
        *("int64", "int64", "string", "int64", "double")
    ]
    assert table["MSP"].to_pylist() == [None, "3"]
    assert table["INCOME"].null_count == 1
    assert table["SEX"].to_pylist() == [2, 1]

    other = {  # as other programs write them
        "MSP": pa.array(["N", None, "2"]).dictionary_encode(),
        "SEX": pa.array([1.0, 2.0, 1.0]),
        "AGE": pa.array([0, 5, 94], pa.uint8()),
        "INCOME": pa.array([float("nan"), -4600, None]),
        "DENSITY": pa.array([16, 3683, 16], pa.float32()),
        "born": pa.array([[1], [2], []]),  # no column of the schema
    }
    pyarrow.parquet.write_table(pa.table(other), path)
    expected = [[0, 0, 3, 1024, 0], [5, 1, 3, 0, 1023], [94, 0, 1, 1024, 0]]
    assert read_table(path, schema).tolist() == expected

    def refused(column, values, rule):
        pyarrow.parquet.write_table(pa.table(other | {column: values}), path)
        with pytest.raises(InputError, match=rule):
            read_table(path, schema)

    refused("AGE", pa.array([1, None, 2]), "row 2, column 'AGE': a null, and the schema has none")
    refused("AGE", pa.array([1, 2, 95]), "row 3, column 'AGE': 95 is not within")
    refused("AGE", pa.array([[1], [2], []]), "'AGE' is of type list")
    refused("AGE", pa.nulls(3), "row 1, column 'AGE': a null")
    empty = pa.table({name: values[:0] for name, values in other.items()})
    pyarrow.parquet.write_table(empty, path)
    with pytest.raises(InputError, match="no rows"):
        read_table(path, schema)
    pyarrow.parquet.write_table(pa.table({"AGE": [1]}), path)
    with pytest.raises(InputError, match="no column 'SEX'"):
        read_table(path, schema)
    (tmp_path / "x.parquet").write_text(HEADER)
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_table(path, schema)
    tenth = one(real("x", 0, 0.1))
    pyarrow.parquet.write_table(pa.table({"x": pa.array([0.1], pa.float32())}), path)
    assert read_table(path, tenth)[0, 0] == tenth.columns[0].bins - 1  # and not above 0.1


def test_inferred_schema(tmp_path):
    rng = np.random.default_rng(1)
    lines = ["id,sex,few,pay,some,word"]
    for i in range(300):
        pay = f"{rng.random() * 1e3:.7f}" if i % 3 else ""
        some = rng.integers(0, 10**6) if i % 4 else "?"
        lines.append(f"{i},{'fm'[i % 2]},{i % 7},{pay},{some},{rng.choice(['b', 'a', ''])}")
    path = tmp_path / "x.csv"
    path.write_text("\n".join(lines))
    schema = infer_schema(str(path))
    column = schema.column
    assert (column("id").kind, column("id").lower, column("id").upper) == ("integer", 0, 299)
    assert column("sex").labels == ("f", "m")
    assert column("few").labels == tuple("0123456")
    assert column("few").whole
    assert (column("pay").kind, column("pay").null) == ("real", "")
    assert (column("some").kind, column("some").null) == ("integer", "?")
    assert (column("word").labels, column("word").null) == (("a", "b"), "")
    codes = read_table(str(path), schema)
    assert (codes[::3, 3] == column("pay").bins).all()

    path.write_text("x\n" + "\n".join(str(v) for v in rng.standard_normal(200)))  # 16 digits
    read_table(str(path), infer_schema(str(path)))
    path.write_text("x,y\n1,\n2,\n")
    with pytest.raises(InputError, match="column 'y': values must be at least one"):
        infer_schema(str(path))


def test_example():
    schema, codes = example_schema(), example_codes()
    assert codes.shape == (5000, 8)
    assert codes.dtype == np.int32
    assert schema.sizes.tolist() == [74, 2, 16, 13, 99, 1025, 9, 2]
    assert ((codes >= 0) & (codes < schema.sizes)).all()
    assert np.array_equal(codes, example_codes(5000))
    for j in (1, 2, 3, 6, 7):
        assert np.bincount(codes[:, j], minlength=schema.sizes[j]).min() > 0
    age, education, occupation, income = (codes[:, j] for j in (0, 2, 3, 5))
    assert ((income == 1024) == (age < 3)).all()  # under 20
    working = (occupation < 12) & (income < 1024)
    assert np.corrcoef(education[working], income[working])[0, 1] > 0.3
    assert np.corrcoef(education[working], occupation[working])[0, 1] > 0.5
    assert codes[age < 5, 7].mean() < 0.2 < 0.5 < codes[age > 20, 7].mean()
    assert example_codes(1).shape == (1, 8)
    with pytest.raises(InputError, match="rows"):
        example_codes(0)


def test_speed(tmp_path):
    schema = Schema(tuple(integer(f"c{j}", 0, 999) for j in range(24)))
    codes = np.random.default_rng(1).integers(0, 1000, (50_000, 24)).astype(np.int32)
    start = time.perf_counter()
    write_table(str(tmp_path / "x.csv"), schema, codes, 0)
    assert np.array_equal(read_table(str(tmp_path / "x.csv"), schema), codes)
    assert time.perf_counter() - start < 10  # 0.5 s on an idle machine
