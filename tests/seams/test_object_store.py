"""What every object store must do, whatever is behind it: one suite, run on each of OPENERS.

Not covered: stale listings, since a folder has none.
"""

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import Missing, Refused, Unavailable
from runtime.objects import Store, file_url, folder_of, open_store

RIVALS = 16
LARGE_BYTES = 1 << 20
BAD_KEYS = ["", "/a", "a/", "a//b", "a b", "ä", "a\n", "a#1", "a?b", "a%20b", "a\\b", "a:b"]
# None is a folder of another: a folder store can't hold both `a` and `a/b`.
KEYS = ["a", "b/c", "b/c.d", "b/e/f", "bc/0", "Z/_-.9"]
EXAMPLES = 40  # each of many files


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a store is."""

    url: str
    take_away: Callable[[], None]  # afterwards it can't answer

    def open(self) -> Store:
        """A client of its own."""
        return open_store(self.url)


def folder_place(folder: Path) -> Place:
    """A folder; a file in its place can't answer."""

    def take_away() -> None:
        shutil.rmtree(folder)
        folder.write_text("a file")

    return Place(url=file_url(folder), take_away=take_away)


OPENERS: dict[str, Callable[[Path], Place]] = {"folder": folder_place}


@pytest.fixture(params=OPENERS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return OPENERS[request.param](tmp_path / "place")


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()


def content_of(store: Store) -> dict[str, bytes]:
    """All of it."""
    return {info.key: store.get(info.key) for info in store.list()}


calls = st.tuples(
    st.sampled_from(["put", "put_if_absent", "delete"]),
    st.sampled_from(KEYS),
    st.binary(max_size=40),
)


@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)
@settings(max_examples=EXAMPLES)
@given(calls=st.lists(calls, max_size=30))
def test_any_row_of_calls_leaves_what_a_dict_would_hold(
    opener: Callable[[Path], Place], calls: list[tuple[str, str, bytes]]
) -> None:
    held: dict[str, bytes] = {}
    with TemporaryDirectory() as folder:
        place = opener(Path(folder) / "place")
        store = place.open()

        for call, key, data in calls:
            match call:
                case "put":
                    store.put(key, data)
                    held[key] = data
                case "put_if_absent":
                    assert store.put_if_absent(key, data) == (key not in held)
                    held.setdefault(key, data)
                case _:
                    store.delete(key)
                    held.pop(key, None)

        assert content_of(place.open()) == held
        for info in store.list():
            assert info.size_bytes == len(held[info.key])


def test_what_is_not_there_is_missing(store: Store, tmp_path: Path) -> None:
    store.put("a/b", b"x")

    for key in ("c", "a", "a/bc", "d/e/f"):
        with pytest.raises(Missing, match=key):
            store.get(key)
        with pytest.raises(Missing, match=key):
            store.head(key)
        with pytest.raises(Missing, match=key):
            store.get_range(key, 0, 1)
        with pytest.raises(Missing, match=key):
            store.get_file(key, tmp_path / "file")

    assert not (tmp_path / "file").exists()


def test_what_is_not_there_can_be_deleted(store: Store) -> None:
    store.put("a/b", b"x")

    store.delete("a/c")
    store.delete("d")

    assert content_of(store) == {"a/b": b"x"}


def test_a_shorter_object_leaves_nothing_of_the_longer_one(store: Store) -> None:
    store.put("a", b"a long one")

    store.put("a", b"short")

    assert store.get("a") == b"short"
    assert store.head("a").size_bytes == 5


def test_a_reader_never_sees_half_of_a_write(place: Place) -> None:
    old, new = b"o" * LARGE_BYTES, b"n" * LARGE_BYTES
    place.open().put("a", old)
    has_ended = threading.Event()

    def write() -> None:
        store = place.open()
        for content in [new, old] * 10:
            store.put("a", content)
        has_ended.set()

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(write)
        store = place.open()
        seen = {store.get("a")}
        while not has_ended.is_set() and not writing.done():
            seen.add(store.get("a"))
        writing.result()

    assert seen <= {old, new}


def test_a_range_is_the_bytes_asked_for(store: Store) -> None:
    store.put("a", bytes(range(100)))

    assert store.get_range("a", 0, 1) == b"\x00"
    assert store.get_range("a", 40, 20) == bytes(range(40, 60))
    assert store.get_range("a", 98, 2) == bytes([98, 99])


def test_a_file_goes_up_and_comes_down_whole(store: Store, tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192
    (tmp_path / "up").write_bytes(content)
    (tmp_path / "down").write_bytes(b"what was there before" * LARGE_BYTES)

    store.put("a/b", tmp_path / "up")
    store.get_file("a/b", tmp_path / "down")

    assert store.get("a/b") == content
    assert (tmp_path / "down").read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} <= {"up", "down", "place"}


def test_times_are_the_stores_own_and_never_run_back(store: Store) -> None:
    store.put("a", b"1")
    first = store.head("a").last_modified
    store.put("b", b"2")

    store.put("a", b"3")

    again = store.head("a").last_modified
    assert first <= store.head("b").last_modified <= again
    assert first.utcoffset() == timedelta(0)
    assert {info.key: info.last_modified for info in store.list()}["a"] == again


def test_a_listing_takes_its_prefix_as_whole_path_segments(store: Store) -> None:
    for key in ("a/b/c", "a/b/d/e", "a/bc", "ab", "a/b.c"):
        store.put(key, b"x")

    def keys(prefix: str) -> set[str]:
        return {info.key for info in store.list(prefix)}

    assert keys("a/b") == {"a/b/c", "a/b/d/e"}
    assert keys("a") == {"a/b/c", "a/b/d/e", "a/bc", "a/b.c"}
    assert keys("") == {"a/b/c", "a/b/d/e", "a/bc", "ab", "a/b.c"}
    assert keys("b") == keys("a/b/d/f") == set()


def test_of_many_that_put_if_absent_one_wins_and_its_bytes_stay(place: Place) -> None:
    together = threading.Barrier(RIVALS)

    def put(number: int) -> bool:
        store = place.open()
        together.wait()
        return store.put_if_absent("log/00000000", f"rival {number}".encode() * 1000)

    with ThreadPoolExecutor(RIVALS) as threads:
        won = list(threads.map(put, range(RIVALS)))

    assert won.count(True) == 1
    assert content_of(place.open()) == {"log/00000000": f"rival {won.index(True)}".encode() * 1000}


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_some_store_would_sign_differently_is_a_fault_of_ours(
    store: Store, tmp_path: Path, key: str
) -> None:
    for call in (
        lambda: store.get(key),
        lambda: store.head(key),
        lambda: store.get_range(key, 0, 1),
        lambda: store.get_file(key, tmp_path / "file"),
        lambda: store.put(key, b"x"),
        lambda: store.put_if_absent(key, b"x"),
        lambda: store.delete(key),
    ):
        with pytest.raises(AssertionError, match="a key of ours"):
            call()

    assert content_of(store) == {}


@pytest.mark.parametrize("key", ["..", "../b", "a/../../b", "./a"])
def test_no_key_leads_out_of_the_store(store: Store, tmp_path: Path, key: str) -> None:
    (tmp_path / "b").write_bytes(b"not in the store")

    for call in (lambda: store.put(key, b"x"), lambda: store.delete(key), lambda: store.get(key)):
        with pytest.raises((AssertionError, ValueError, TypeError)):
            call()

    assert (tmp_path / "b").read_bytes() == b"not in the store"


def test_a_store_that_can_not_answer_is_unavailable(place: Place, tmp_path: Path) -> None:
    store = place.open()
    store.put("a/b", b"x")

    place.take_away()

    for call in (
        lambda: store.get("a/b"),
        lambda: store.head("a/b"),
        lambda: store.get_range("a/b", 0, 1),
        lambda: store.get_file("a/b", tmp_path / "file"),
        lambda: store.put("a/b", b"x"),
        lambda: store.put_if_absent("a/b", b"x"),
        lambda: store.delete("a/b"),
        lambda: list(store.list("a")),
    ):
        with pytest.raises(Unavailable, match="a"):
            call()
    assert not (tmp_path / "file").exists()


def test_a_store_that_can_not_be_opened_is_unavailable(place: Place) -> None:
    place.open()
    place.take_away()

    with pytest.raises(Unavailable):
        place.open().get("a")


@pytest.mark.parametrize("url", ["ftp://x/y", "http://x/y", "/srv/x", "memory:///", "", "S4://x"])
def test_another_scheme_is_refused_with_those_that_are_allowed(url: str) -> None:
    with pytest.raises(Refused, match=r"allowed s3://, gs://, az:// or file://"):
        open_store(url)


segments = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8
).filter(lambda text: text not in {".", ".."})


@given(parts=st.lists(segments, min_size=1, max_size=4))
def test_any_folder_survives_its_url(parts: list[str]) -> None:
    folder = Path("/", *parts)

    url = file_url(folder)

    assert folder_of(url) == folder
    assert url.isascii()


@pytest.mark.parametrize("name", ["a b", "Zürich/Säle", "50%", "c#", "what?", "a+b&c=d", "日本"])
def test_a_folder_of_any_name_is_a_store(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name

    open_store(file_url(folder)).put("a/b", b"x")

    assert (folder / "a" / "b").read_bytes() == b"x"
    assert open_store(file_url(folder)).head("a/b").last_modified.tzinfo == UTC


def test_where_nothing_was_written_yet_a_folder_is_empty(tmp_path: Path) -> None:
    assert content_of(open_store(file_url(tmp_path / "not" / "there" / "yet"))) == {}
