"""What every object store must do, whatever is behind it: one suite, run on each of STORES.

Not covered: stale listings, since none of them has any.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import Corrupt, Missing, Refused, Unavailable
from runtime.limits import STORE_PART_BYTES
from runtime.objects import Store, file_url, folder_of, open_store
from tests.doubles.fault_proxy import WELL
from tests.doubles.store_servers import SERVERS, environment
from tests.seams.conftest import Place, Places

# SeaweedFS makes those who meet wait a second each for their turn.
RIVALS = {"folder": 16, "s3": 4, "gs": 16, "az": 16}
LARGE_BYTES = 1 << 20
BAD_KEYS = ["", "/a", "a/", "a//b", "a b", "ä", "a\n", "a#1", "a?b", "a%20b", "a\\b", "a:b"]
# None is a folder of another: a folder store can't hold both `a` and `a/b`.
KEYS = ["a", "b/c", "b/c.d", "b/e/f", "bc/0", "Z/_-.9"]
EXAMPLES = {"folder": 40, "s3": 15, "gs": 15, "az": 15}  # each of many calls
LARGE = 2 * STORE_PART_BYTES + 1  # three parts


STORES = ["folder", *SERVERS]


@pytest.fixture(params=STORES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=SERVERS)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(places: Places, name: str) -> Place:
    return places.new(name)


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


def test_any_row_of_calls_leaves_what_a_dict_would_hold(places: Places, name: str) -> None:
    @settings(max_examples=EXAMPLES[name])
    @given(calls=st.lists(calls, max_size=30))
    def leaves_it(calls: list[tuple[str, str, bytes]]) -> None:
        held: dict[str, bytes] = {}
        place = places.new(name)
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

    leaves_it()


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


@pytest.mark.parametrize(("start", "length"), [(98, 10), (99, 2), (100, 1), (500, 3)])
def test_a_range_that_the_object_does_not_have_is_corrupt(
    store: Store, start: int, length: int
) -> None:
    store.put("a", bytes(100))

    with pytest.raises(Corrupt, match="a: "):
        store.get_range("a", start, length)


def test_a_large_object_goes_up_and_comes_down_whole(
    store: Store, tmp_path: Path, seed: int
) -> None:
    content = Random(seed).randbytes(LARGE)
    (tmp_path / "up").write_bytes(content)

    store.put("bytes", content)
    store.put("view", memoryview(bytearray(content[:-1])).cast("I"))
    store.put("file", tmp_path / "up")
    store.get_file("bytes", tmp_path / "down")

    assert (tmp_path / "down").read_bytes() == content
    assert store.get("view") == content[:-1]
    assert store.get("file") == content
    assert store.get_range("file", STORE_PART_BYTES - 1, 2) == content[STORE_PART_BYTES - 1 :][:2]
    assert {info.key: info.size_bytes for info in store.list()} == {
        "bytes": LARGE,
        "view": LARGE - 1,
        "file": LARGE,
    }


@pytest.mark.parametrize("size", [0, STORE_PART_BYTES, STORE_PART_BYTES + 1])
def test_the_sizes_at_which_the_way_changes_are_whole(store: Store, size: int) -> None:
    content = b"x" * size

    store.put("a", content)

    assert store.head("a").size_bytes == size
    assert store.get("a") == content


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
    listed = {info.key: info.last_modified for info in store.list()}
    # A head may say whole seconds where a listing says more.
    assert listed["a"].replace(microsecond=0) == again.replace(microsecond=0)


def test_a_listing_takes_its_prefix_as_whole_path_segments(store: Store) -> None:
    for key in ("a/b/c", "a/b/d/e", "a/bc", "ab", "a/b.c"):
        store.put(key, b"x")

    def keys(prefix: str) -> set[str]:
        return {info.key for info in store.list(prefix)}

    assert keys("a/b") == {"a/b/c", "a/b/d/e"}
    assert keys("a") == {"a/b/c", "a/b/d/e", "a/bc", "a/b.c"}
    assert keys("") == {"a/b/c", "a/b/d/e", "a/bc", "ab", "a/b.c"}
    assert keys("b") == keys("a/b/d/f") == set()


def test_of_many_that_put_if_absent_one_wins_and_its_bytes_stay(place: Place, name: str) -> None:
    rivals = RIVALS[name]
    together = threading.Barrier(rivals)

    def put(number: int) -> bool:
        store = place.open()
        together.wait()
        return store.put_if_absent("log/00000000", f"rival {number}".encode() * 1000)

    with ThreadPoolExecutor(rivals) as threads:
        won = list(threads.map(put, range(rivals)))

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


def test_who_is_not_let_in_hears_what_to_do_and_does_not_knock_again(
    places: Places, scheme: str
) -> None:
    behind = places.proxied(scheme)
    wrong = (
        behind.options()
        | {
            "s3": {"secret_access_key": "wrong"},
            "gs": {"bearer_token": "wrong"},
            "az": {"account_key": "d3Jvbmc="},
        }[scheme]
    )
    store = open_store(behind.server.url, options=wrong)
    needed = {"s3": "AWS_SECRET", "gs": "GOOGLE_APPLICATION", "az": "AZURE_STORAGE_ACCOUNT_KEY"}

    for call in (
        lambda: store.get("a"),
        lambda: store.put("a", b"x"),
        lambda: store.put_if_absent("a", b"x"),
        lambda: list(store.list("a")),
        lambda: store.delete("a"),
    ):
        behind.proxy.set(WELL)
        with pytest.raises(Refused, match=needed[scheme]):
            call()
        assert len(behind.proxy.met) == 1


def test_a_bucket_that_is_not_there_is_named(places: Places, scheme: str) -> None:
    behind = places.proxied(scheme)
    store = open_store(f"{scheme}://not-there", options=behind.options())

    for call in (
        lambda: store.get("a"),
        lambda: store.put("a", b"x"),
        lambda: store.put_if_absent("a", b"x"),
        lambda: list(store.list()),
    ):
        with pytest.raises(Refused, match=f"{scheme}://not-there: found no such bucket"):
            call()


def test_the_environment_says_where_and_who(
    places: Places, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = places.new(scheme)
    for name, value in environment(scheme, places.proxied(scheme).proxy.url).items():
        monkeypatch.setenv(name, value)

    store = open_store(place.url)
    store.put("a", b"x")

    assert content_of(place.open()) == {"a": b"x"}


def test_an_address_without_tls_must_be_allowed(
    places: Places, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(scheme, places.proxied(scheme).proxy.url).items():
        if "ALLOW_HTTP" not in name:
            monkeypatch.setenv(name, value)

    with pytest.raises(Refused, match=r"an address without TLS needs [A-Z]+_ALLOW_HTTP"):
        open_store(f"{scheme}://bucket").get("a")


def test_an_option_that_there_is_not_is_refused(scheme: str) -> None:
    with pytest.raises(Refused, match="colour"):
        open_store(f"{scheme}://bucket", options={"colour": "red"})


@pytest.mark.usefixtures("places")  # they clear the environment
def test_azure_without_an_account_is_refused() -> None:
    with pytest.raises(Refused, match="Account must be specified"):
        open_store("az://container")


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
