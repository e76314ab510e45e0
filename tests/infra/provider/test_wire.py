"""Values survive the way through a struct; secrets are opened, unknowns seen."""

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from infra.provider.wire import OUTPUT, SECRET, SIGNATURE, UNKNOWN, has_unknown, read, write

leaves = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text().filter(lambda t: t != "")
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text("abc_", min_size=1), inner)
)


@given(st.dictionaries(st.text("abc", min_size=1), values))
def test_properties_come_back_as_they_were_written(properties: dict[str, object]) -> None:
    assert read(write(properties)) == properties  # type: ignore[arg-type]


def test_a_secret_is_marked_on_the_wire_and_opened_when_read() -> None:
    struct = write({"key": "sk-1", "open": "x"}, frozenset({"key"}))

    assert json_format.MessageToDict(struct)["key"][SIGNATURE] == SECRET
    assert struct["open"] == "x"
    assert read(struct) == {"key": "sk-1", "open": "x"}


def test_an_output_without_a_value_reads_as_unknown() -> None:
    struct = Struct()
    struct.update({"url": {SIGNATURE: OUTPUT, "secret": False}, "list": [1, UNKNOWN]})

    properties = read(struct)

    assert properties["url"] == UNKNOWN
    assert has_unknown(properties["list"])
    assert not has_unknown({"a": [1, "b", None]})


def test_names_that_the_engine_keeps_for_itself_are_dropped() -> None:
    struct = Struct()
    struct.update({"__defaults": [], "size": 2})

    assert read(struct) == {"size": 2}
