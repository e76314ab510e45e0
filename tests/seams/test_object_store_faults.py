"""The store behind a network that fails: what a call says, and what is there afterwards."""

import hashlib
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.coordination.log import Log, Record
from runtime.errors import Missing, Refused, Unavailable
from runtime.limits import (
    STORE_CHANGES_MAX,
    STORE_PAUSE_S_MAX,
    STORE_PAUSE_S_MIN,
)
from runtime.objects import Patience, Store, open_store
from tests.doubles.clock import Clock, patience
from tests.doubles.fault_proxy import WELL, Call, Fault, FaultProxy, Kind, at, drawn, first
from tests.doubles.store_servers import SERVERS, options
from tests.seams.conftest import Place, Places, Proxied

PART_BYTES = {"s3": 5 << 20, "gs": 64 << 10, "az": 64 << 10}  # S3 takes no smaller ones
# A try takes three tenths of it: short enough to wait for a time-out.
HASTY_S = 2.0
# Long enough that a busy server does not carry a call out after it was given up. SeaweedFS lets a
# conditional write wait for seconds where an earlier one was cut off, so nothing hangs there.
SWEEP_S = {"s3": 30.0, "gs": 8.0, "az": 8.0}
QUICK = (Kind.RESET, Kind.BUSY, Kind.LOSE_ANSWER, Kind.CUT)
LOST = (Kind.LOSE_ANSWER, Kind.CUT, Kind.HALF_OPEN)
EXAMPLES = {"s3": 8, "gs": 12, "az": 8}
RIVALS = {"s3": 3, "gs": 8, "az": 8}


@pytest.fixture(params=SERVERS)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def behind(places: Places, scheme: str) -> Proxied:
    return places.proxied(scheme)


@pytest.fixture
def place(places: Places, scheme: str) -> Place:
    return places.new(scheme)


@pytest.fixture
def proxy(behind: Proxied) -> FaultProxy:
    return behind.proxy


@pytest.fixture
def direct(place: Place, behind: Proxied) -> Store:
    """A client that the proxy does not stand before."""
    return open_store(place.url, options=options(behind.server.scheme, behind.server.address))


@pytest.fixture
def large(scheme: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The size of an object that takes three parts, which are small."""
    monkeypatch.setattr("runtime.objects.store.STORE_PART_BYTES", PART_BYTES[scheme])
    return 2 * PART_BYTES[scheme] + 1


def hasty() -> Patience:
    """Hangs cost little time."""
    return patience(total_s=HASTY_S)


@pytest.mark.parametrize("kind", LOST)
def test_whose_answer_was_lost_finds_out_that_he_has_won(
    place: Place, proxy: FaultProxy, kind: Kind
) -> None:
    store = place.open(hasty() if kind is Kind.HALF_OPEN else None)
    proxy.set(at(1, Fault(kind)))

    has_won = store.put_if_absent("log/0", b"mine")

    assert proxy.met[0] is kind
    assert has_won
    assert place.open().get("log/0") == b"mine"
    assert not place.open().put_if_absent("log/0", b"a rival's")


def test_who_hears_nothing_while_another_writes_has_lost(
    place: Place, proxy: FaultProxy, direct: Store
) -> None:
    store = place.open(hasty())

    def plan(call: Call) -> Fault:
        if call.number > 1:
            return WELL
        assert direct.put_if_absent("log/0", b"a rival's")
        return Fault(Kind.RESET)

    proxy.set(plan)

    assert not store.put_if_absent("log/0", b"mine")
    assert store.get("log/0") == b"a rival's"


def test_of_many_whose_answers_get_lost_one_wins(
    place: Place, proxy: FaultProxy, scheme: str, seed: int
) -> None:
    rivals = RIVALS[scheme]
    together = threading.Barrier(rivals)
    proxy.set(drawn(seed, [Fault(kind) for kind in QUICK], share=0.4))

    def put(number: int) -> bool:
        store = place.open(patience(seed=number))
        together.wait()
        return store.put_if_absent("log/0", f"rival {number}".encode())

    with ThreadPoolExecutor(rivals) as threads:
        won = list(threads.map(put, range(rivals)))
    proxy.set(WELL)

    assert won.count(True) == 1
    assert place.open().get("log/0") == f"rival {won.index(True)}".encode()


def test_a_log_that_many_write_at_once_holds_each_record_once(
    place: Place, proxy: FaultProxy, scheme: str, seed: int
) -> None:
    writers = RIVALS[scheme] // 2 + 1
    proxy.set(drawn(seed, [Fault(kind) for kind in QUICK], share=0.3))

    def write(number: int) -> list[tuple[int, str]]:
        log = Log(place.open(patience(seed=number)), "log", Record)
        written: list[tuple[int, str]] = []
        while len(written) < 3:
            n = len(log.read())
            record = Record(writer=f"{number}", at=datetime(2026, 1, 1, tzinfo=UTC))
            if log.append_at(n, record):
                written.append((n, record.nonce))
        return written

    with ThreadPoolExecutor(writers) as threads:
        claimed = [one for of_writer in threads.map(write, range(writers)) for one in of_writer]
    proxy.set(WELL)

    there = Log(place.open(), "log", Record).read()
    assert sorted(claimed) == [(n, record.nonce) for n, record in enumerate(there)]


@pytest.mark.parametrize("kind", [Kind.BUSY, Kind.RESET, Kind.LOSE_ANSWER, Kind.CUT])
def test_what_fails_three_times_works_in_the_end(
    place: Place, proxy: FaultProxy, kind: Kind, tmp_path: Path
) -> None:
    place.open().put("a", b"old")
    clock = Clock()
    store = place.open(patience(clock))
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: store.get("a"),
        "head": lambda: store.head("a").size_bytes,
        "range": lambda: store.get_range("a", 1, 2),
        "file": lambda: store.get_file("a", tmp_path / "a"),
        "list": lambda: [info.key for info in store.list()],
        "put": lambda: store.put("a", b"new"),
        "delete": lambda: store.delete("a"),
    }

    said = {}
    for name, call in calls.items():
        clock.slept.clear()
        proxy.set(first(3, Fault(kind)))
        said[name] = call()
        assert proxy.met[:4] == [kind] * 3 + [Kind.NONE], name
        assert len(clock.slept) == 3, name
    proxy.set(WELL)

    assert (said["get"], said["head"]) == (b"old", 3)
    assert (said["range"], said["list"]) == (b"ld", ["a"])
    assert (tmp_path / "a").read_bytes() == b"old"
    assert list(store.list()) == []


LATER = [(429, ""), (409, "ConditionalRequestConflict")]  # nothing was done
DOUBTFUL = [(500, "InternalError"), (503, "SlowDown"), (408, ""), (400, "RequestTimeout")]


@pytest.mark.parametrize(("status", "code"), LATER + DOUBTFUL)
def test_an_answer_that_may_change_is_asked_for_again(
    place: Place, proxy: FaultProxy, status: int, code: str
) -> None:
    store = place.open()
    proxy.set(at(1, Fault(Kind.BUSY, status=status, code=code)))

    assert store.put_if_absent("log/0", b"mine")
    assert proxy.met == [Kind.BUSY, Kind.NONE]


@pytest.mark.parametrize(("status", "code"), LATER + DOUBTFUL)
def test_equal_bytes_count_as_ones_own_only_after_a_doubt(
    place: Place, proxy: FaultProxy, direct: Store, status: int, code: str
) -> None:
    direct.put("log/0", b"equal")
    store = place.open()
    proxy.set(at(1, Fault(Kind.BUSY, status=status, code=code)))

    has_won = store.put_if_absent("log/0", b"equal")

    assert has_won == ((status, code) in DOUBTFUL)
    assert proxy.met == [Kind.BUSY, Kind.NONE] + [Kind.NONE] * has_won


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "ExpiredToken"), (403, "RequestTimeTooSkewed"), (301, ""), (405, ""), (501, "")],
)
def test_an_answer_that_will_not_change_is_refused_at_once(
    place: Place, proxy: FaultProxy, status: int, code: str
) -> None:
    store = place.open()
    proxy.set(Fault(Kind.BUSY, status=status, code=code))

    with pytest.raises(Refused, match=f"{status}|region"):
        store.put("a", b"x")

    assert proxy.met == [Kind.BUSY]


@pytest.mark.parametrize("status", [403, 503])
def test_a_signature_in_an_address_is_never_told(places: Places, status: int) -> None:
    proxy = places.proxied("az").proxy
    proxy.set(Fault(Kind.BUSY, status=status))
    given = {"endpoint": proxy.url, "account_name": "a", "sas_key": "sv=1&sig=SECRET"}
    store = open_store("az://container", options=given, patience=patience())

    with pytest.raises((Refused, Unavailable), match=str(status)) as told:
        store.get("a")

    assert "SECRET" not in "".join(traceback.format_exception(told.value))


def test_a_half_open_connection_is_given_up_and_the_call_made_again(
    place: Place, proxy: FaultProxy
) -> None:
    store = place.open(hasty())
    calls: list[tuple[Callable[[], object], Kind]] = [
        (lambda: store.put("a", b"x"), Kind.BLACKHOLE),
        (lambda: store.get("a"), Kind.HALF_OPEN),
    ]
    for call, kind in calls:
        proxy.set(at(1, Fault(kind)))

        call()

        assert proxy.met[0] is kind
        assert Kind.NONE in proxy.met[1:]


@pytest.mark.parametrize("fault", [Fault(Kind.BLACKHOLE), Fault(bytes_s=400.0)])
def test_a_store_that_is_too_slow_is_unavailable_after_three_tries(
    place: Place, proxy: FaultProxy, direct: Store, fault: Fault
) -> None:
    direct.put("a", bytes(4000))
    store = place.open(Patience(total_s=0.9))
    proxy.set(fault)

    with pytest.raises(Unavailable, match=r"tried for 0\.9 s"):
        store.get("a")

    assert 1 <= len(proxy.met) <= 3


def test_a_large_put_that_nobody_hears_is_unavailable(
    place: Place, proxy: FaultProxy, large: int
) -> None:
    store = place.open(Patience(total_s=0.9))
    proxy.set(Fault(Kind.BLACKHOLE))

    with pytest.raises(Unavailable):
        store.put("a", bytes(large))

    assert 1 <= len(proxy.met) <= 4


def test_a_store_that_comes_back_is_found_again(place: Place, proxy: FaultProxy) -> None:
    clock = Clock()
    store = place.open(patience(clock))
    store.put("a", b"x")
    proxy.down()
    clock.at_pause = lambda number: proxy.up() if number == 5 else None

    store.put("b", b"y")

    assert len(clock.slept) == 5
    assert {info.key for info in store.list()} == {"a", "b"}


def test_a_store_that_stays_away_is_unavailable_when_the_patience_ends(
    place: Place, proxy: FaultProxy
) -> None:
    clock = Clock()
    store = place.open(patience(clock, total_s=20.0))
    proxy.down()

    with pytest.raises(Unavailable):
        store.put_if_absent("a", b"x")

    assert 10.0 < clock.now() <= 20.0


def test_a_body_that_is_damaged_on_its_way_is_seen_by_its_digest(
    place: Place, proxy: FaultProxy
) -> None:
    content = bytes(1000)
    store = place.open()
    store.put("a", content)
    proxy.set(Fault(Kind.CORRUPT))

    found = store.get("a")

    assert len(found) == len(content)
    assert hashlib.sha256(found).digest() != hashlib.sha256(content).digest()


def test_a_large_object_comes_down_whole_however_often_it_is_cut(
    place: Place, proxy: FaultProxy, direct: Store, tmp_path: Path, seed: int, large: int
) -> None:
    content = Random(seed).randbytes(large)
    direct.put("a", content)
    store = place.open()
    proxy.set(drawn(seed, [Fault(kind) for kind in QUICK], share=0.4))

    store.get_file("a", tmp_path / "a")

    assert (tmp_path / "a").read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} == {"a"}


def test_a_large_object_goes_up_whole_however_often_it_is_cut(
    place: Place, proxy: FaultProxy, direct: Store, seed: int, large: int
) -> None:
    content = Random(seed).randbytes(large)
    store = place.open()
    proxy.set(drawn(seed, [Fault(Kind.BUSY), Fault(Kind.LOSE_ANSWER)], share=0.2))

    store.put("a", memoryview(content))

    assert direct.get("a") == content


def test_a_large_put_whose_last_answer_is_lost_is_there(
    place: Place, proxy: FaultProxy, direct: Store, large: int
) -> None:
    content = bytes(large)
    proxy.set(WELL)
    place.open().put("measured", content)
    calls = len(proxy.met)

    proxy.set(at(calls, Fault(Kind.LOSE_ANSWER)))
    place.open().put("a", content)

    assert Kind.LOSE_ANSWER in proxy.met
    assert direct.get("a") == content


def test_a_large_object_that_is_overwritten_meanwhile_is_never_a_mixture(
    place: Place, proxy: FaultProxy, direct: Store, large: int
) -> None:
    old, new = b"o" * large, b"short"
    direct.put("a", old)

    def plan(call: Call) -> Fault:
        if call.number == 4:  # the object was met, two of its parts are on their way
            direct.put("a", new)
        return WELL

    proxy.set(plan)

    assert place.open().get("a") == new


def test_a_large_object_that_changes_faster_than_it_is_read_is_unavailable(
    place: Place, proxy: FaultProxy, direct: Store, tmp_path: Path, large: int
) -> None:
    direct.put("a", b"0" * large)
    versions = iter(range(1, 100))

    def plan(call: Call) -> Fault:
        if call.number % 2 == 0:
            direct.put("a", str(next(versions)).encode() * large)
        return WELL

    proxy.set(plan)

    with pytest.raises(Unavailable, match=f"overwritten {STORE_CHANGES_MAX} times"):
        place.open().get_file("a", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


calls = st.lists(
    st.tuples(
        st.sampled_from(["get", "put", "put_if_absent", "delete"]), st.sampled_from(["a", "b/c"])
    ),
    min_size=1,
    max_size=12,
)
HELD_MAYBE = dict[str, set[bytes | None]]  # what may stand under each key; None: nothing


def make(store: Store, call: str, key: str, value: bytes, held: HELD_MAYBE) -> None:
    """Make a call; what it says must be possible, and narrows what may be there."""
    before = held.setdefault(key, {None})
    try:
        match call:
            case "get":
                found = store.get(key)
                assert found in before
                held[key] = {found}
            case "put":
                store.put(key, value)
                held[key] = {value}
            case "put_if_absent" if store.put_if_absent(key, value):
                assert None in before
                held[key] = {value}
            case "put_if_absent":
                held[key] = before - {None}
                assert held[key]
            case _:
                store.delete(key)
                held[key] = {None}
    except Missing:
        assert None in before
        held[key] = {None}
    except Unavailable:
        if call == "put" or (call == "put_if_absent" and None in before):
            held[key] = before | {value}
        elif call == "delete":
            held[key] = before | {None}


def test_whatever_fails_a_call_that_returned_is_true_and_one_that_did_not_was_done_or_not(
    places: Places, behind: Proxied, scheme: str
) -> None:
    # Few of the faults hang, since each costs a time-out.
    faults = [Fault(kind, jitter_s=0.005) for kind in QUICK * 20]
    faults += [Fault(Kind.HALF_OPEN)] * (scheme != "s3")

    @settings(max_examples=EXAMPLES[scheme])
    @given(calls=calls, seed=st.integers(0, 1 << 32), share=st.sampled_from([0.3, 0.6, 0.8]))
    def holds(calls: list[tuple[str, str]], seed: int, share: float) -> None:
        place = places.new(scheme)
        store = place.open(patience(total_s=SWEEP_S[scheme], seed=seed))
        held: HELD_MAYBE = {}
        behind.proxy.set(drawn(seed, faults, share))

        for number, (call, key) in enumerate(calls):
            make(store, call, key, f"{number}".encode(), held)

        behind.proxy.set(WELL)
        there = {info.key: place.open().get(info.key) for info in store.list()}
        for key, may_be in held.items():
            assert there.pop(key, None) in may_be
        assert there == {}

    holds()


@given(
    total_s=st.floats(1.5, 300.0),
    seed=st.integers(0, 1 << 32),
    shares=st.lists(st.floats(0.0, 1.0), max_size=50),
)
def test_no_call_outlasts_its_patience_and_three_hangs_fit_into_it(
    total_s: float, seed: int, shares: list[float]
) -> None:
    clock = Clock()
    tried = patience(clock, total_s=total_s, seed=seed)
    hangs = iter(shares)

    count = 0
    for _ in tried.tries():
        clock.slept.append(tried.try_s * next(hangs, 1.0))  # how long this try took
        count += 1

    assert clock.now() <= total_s * 1.000001
    assert count >= 3


@given(seed=st.integers(0, 1 << 32))
def test_pauses_double_up_to_their_limit_and_are_drawn(seed: int) -> None:
    clock = Clock()

    for _ in patience(clock, total_s=60.0, seed=seed).tries():
        pass

    *pauses, _ = clock.slept  # the last may be cut short by the end
    for number, pause_s in enumerate(pauses):
        longest = min(STORE_PAUSE_S_MAX, STORE_PAUSE_S_MIN * 2**number)
        assert longest / 2 <= pause_s <= longest
    assert len(set(pauses)) == len(pauses)


def test_a_delay_is_added_to_each_call(place: Place, proxy: FaultProxy) -> None:
    store = place.open()
    store.put("a", b"x")
    proxy.set(Fault(delay_s=0.05))
    began = time.monotonic()

    for _ in range(4):
        store.get("a")

    assert time.monotonic() - began >= 4 * 0.05
    assert proxy.met == [Kind.NONE] * 4


def test_a_drawn_plan_is_the_same_for_the_same_seed(seed: int) -> None:
    faults = [Fault(kind) for kind in QUICK]

    def plan(seed: int) -> list[Kind]:
        chosen = drawn(seed, faults, share=0.5)
        return [chosen(Call(number=n, connection=n % 3)).kind for n in range(100)]

    assert plan(seed) == plan(seed)
    assert plan(seed) != plan(seed + 1)
