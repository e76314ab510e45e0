"""S3 in the strict double: objects are resources, so that a bucket that holds some stays.

Those of the engine and those that were put stand side by side. Not covered: versions (there is one
of each object, called null), uploads in parts, other regions.
"""

import base64
import hashlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from infra.provider.wire import Properties
from tests.doubles.strict_ask import Answer, Ask, Refusal, Said, pairs, tags_of
from tests.doubles.strict_changes import drop
from tests.doubles.strict_cloud import CloudError, Stored

BUCKET = "s3/bucket:Bucket"
OBJECT = "s3/bucketObjectv2:BucketObjectv2"
OBJECTS = ("s3/bucketObject:BucketObject", OBJECT)
# What a bucket takes along: how it is set up, and no objects.
SETTINGS = frozenset(
    f"aws:s3/{name[0].lower()}{name[1:]}:{name}"
    for name in (
        *("BucketPolicy", "BucketVersioning", "BucketServerSideEncryptionConfiguration"),
        *("BucketLifecycleConfiguration", "BucketPublicAccessBlock", "BucketOwnershipControls"),
    )
)
PAGE_KEYS = 10  # so that a listing has pages
BORN = datetime(2026, 11, 1, tzinfo=UTC)  # when the engine has made its objects
NULL = "null"  # the only version
RANGE = re.compile(r"bytes=(\d*)-(\d*)")
WRITING = threading.Lock()  # a condition and its write are one step


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """One object, whoever wrote it."""

    stored: Stored

    @property
    def key(self) -> str:
        """Within its bucket."""
        return str(self.stored.state["key"])

    @property
    def body(self) -> bytes:
        """As it was put, or as the program's asset says."""
        state = self.stored.state
        source = state.get("source")
        if isinstance(source, dict):
            path = source.get("path")
            return Path(str(path)).read_bytes() if path else str(source.get("text", "")).encode()
        coded = state.get("contentBase64")
        return base64.b64decode(str(coded)) if coded else str(state.get("content") or "").encode()

    @property
    def e_tag(self) -> str:
        """By content."""
        return f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"'

    @property
    def written(self) -> datetime:
        """By the store's clock."""
        at = self.stored.inputs.get("lastModified")
        return datetime.fromisoformat(str(at)) if at else BORN

    def row(self) -> dict[str, object]:
        """In a list."""
        told: dict[str, object] = {"Key": self.key, "Size": len(self.body), "ETag": self.e_tag}
        return {**told, "LastModified": self.written, "StorageClass": "STANDARD"}


def _bucket(ask: Ask) -> Stored:
    name = ask.text("Bucket")
    found = [one for one in ask.all(BUCKET, everywhere=True) if one.state.get("bucket") == name]
    if not found:
        raise Refusal("NoSuchBucket", f"The specified bucket does not exist: {name}", 404)
    return found[0]


def _objects(ask: Ask) -> list[Object]:
    """In the bucket, by key."""
    bucket = _bucket(ask).state["bucket"]
    there = [Object(stored=one) for one in ask.all(*OBJECTS, everywhere=True)]
    mine = [one for one in there if one.stored.state.get("bucket") == bucket]
    return sorted(mine, key=lambda one: one.key.encode())


def _find(ask: Ask, key: str) -> Object | None:
    bucket = _bucket(ask).state["bucket"]
    for kind in OBJECTS:
        found = ask.cloud.find(f"aws:{kind}", f"{bucket}/{key}")
        if found is not None:
            return Object(stored=found)
    return None


def _put(ask: Ask) -> Said:
    body = ask.parameters.get("Body") or b""
    assert isinstance(body, bytes)
    bucket, key = str(_bucket(ask).state["bucket"]), ask.text("Key")
    state: Properties = {
        "bucket": bucket,
        "key": key,
        "contentBase64": base64.b64encode(body).decode(),
        "lastModified": datetime.now(UTC).isoformat(),
    }
    kind, resource_id = f"aws:{OBJECT}", f"{bucket}/{key}"
    made = Stored(
        type=kind, id=resource_id, name="", urn="", seed="", inputs=state, state=dict(state)
    )
    with WRITING:
        there = _find(ask, key)
        _refuse_unmet(ask, there)
        try:
            if there is None:
                ask.cloud.create(made)
            else:
                ask.cloud.write(made, there.stored.revision + 1)
        except CloudError as fault:  # another process has just written or deleted it
            raise Refusal("ConditionalRequestConflict", str(fault), 409) from fault
    return {"ETag": Object(stored=made).e_tag}


def _refuse_unmet(ask: Ask, there: Object | None) -> None:
    """By what a request demands of the object that it meets."""
    wanted, unwanted = ask.text("IfMatch"), ask.text("IfNoneMatch")
    if wanted and there is None:
        raise _no_such_key(ask)
    is_met = not wanted or (there is not None and there.e_tag == _quoted(wanted))
    if there is not None and unwanted and unwanted in ("*", there.e_tag):
        is_met = False
    if not is_met:
        words = "At least one of the pre-conditions you specified did not hold"
        raise Refusal("PreconditionFailed", words, 412)


def _quoted(e_tag: str) -> str:
    return e_tag if e_tag.startswith('"') else f'"{e_tag}"'


def _no_such_key(ask: Ask) -> Refusal:
    return Refusal("NoSuchKey", f"The specified key does not exist: {ask.text('Key')}", 404)


def _head(ask: Ask) -> Said:
    there = _find(ask, ask.text("Key"))
    if there is None:
        raise _no_such_key(ask)
    _refuse_unmet(ask, there)
    said: Said = {"ETag": there.e_tag, "LastModified": there.written, "AcceptRanges": "bytes"}
    return {**said, "ContentLength": len(there.body)}


def _get(ask: Ask) -> Said:
    said, there = _head(ask), _find(ask, ask.text("Key"))
    if there is None:  # deleted between the two
        raise _no_such_key(ask)
    body, asked = there.body, RANGE.fullmatch(ask.text("Range"))
    if asked is None:
        return {**said, "Body": body}
    first, last = _span(asked[1], asked[2], len(body))
    part = body[first : last + 1]
    where = f"bytes {first}-{first + len(part) - 1}/{len(body)}"
    return {**said, "Body": part, "ContentLength": len(part), "ContentRange": where}


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    """First and last byte; without a first one, it is the last so many."""
    if not first:
        return max(0, size - int(last)), size - 1
    if int(first) >= size:
        raise Refusal("InvalidRange", "The requested range is not satisfiable", 416)
    return int(first), min(int(last or size), size - 1)


def _delete(ask: Ask) -> Said:
    """No error if it is not there."""
    there = _find(ask, ask.text("Key"))
    if there is not None:
        drop(ask, there.stored)
    return {}


def _delete_many(ask: Ask) -> Said:
    which = ask.parameters["Delete"]
    assert isinstance(which, dict)
    keys = [str(one["Key"]) for one in which["Objects"]]
    for key in keys:
        there = _find(ask, key)
        if there is not None:
            drop(ask, there.stored)
    return {} if which.get("Quiet") else {"Deleted": [{"Key": key} for key in keys]}


def _page(ask: Ask, after: str) -> tuple[list[Object], list[str], bool]:
    """Objects and common prefixes after a key, and whether there are more."""
    prefix, delimiter = ask.text("Prefix"), ask.text("Delimiter")
    most = min(int(ask.text("MaxKeys") or PAGE_KEYS), PAGE_KEYS)
    objects: list[Object] = []
    prefixes: list[str] = []
    for one in _objects(ask):
        if not one.key.startswith(prefix) or one.key <= after:
            continue
        head, has_more, _ = one.key[len(prefix) :].partition(delimiter or "\0")
        common = f"{prefix}{head}{delimiter}" if has_more else ""
        if common and (common in prefixes or after.startswith(common)):
            continue
        if len(objects) + len(prefixes) == most:
            return objects, prefixes, True
        prefixes += [common] if common else []
        objects += [] if common else [one]
    return objects, prefixes, False


def _list(ask: Ask) -> Said:
    """Version 2: the token is the last key of the page before."""
    objects, prefixes, is_cut = _page(ask, ask.text("ContinuationToken") or ask.text("StartAfter"))
    last = max([one.key for one in objects] + prefixes, default="")
    return {
        "Name": ask.text("Bucket"),
        "Prefix": ask.text("Prefix"),
        "KeyCount": len(objects) + len(prefixes),
        "MaxKeys": PAGE_KEYS,
        "IsTruncated": is_cut,
        "Contents": [one.row() for one in objects],
        "CommonPrefixes": [{"Prefix": common} for common in prefixes],
        **({"NextContinuationToken": last} if is_cut else {}),
    }


def _list_versions(ask: Ask) -> Said:
    objects, _, is_cut = _page(ask, ask.text("KeyMarker"))
    told = [{**one.row(), "VersionId": NULL, "IsLatest": True} for one in objects]
    marker = {"NextKeyMarker": objects[-1].key, "NextVersionIdMarker": NULL} if is_cut else {}
    return {"Name": ask.text("Bucket"), "IsTruncated": is_cut, "Versions": told, **marker}


def _list_buckets(ask: Ask) -> Said:
    there = ask.all(BUCKET, everywhere=True)
    return {"Buckets": [{"Name": one.state["bucket"], "CreationDate": BORN} for one in there]}


def _tagging(ask: Ask) -> Said:
    tags = tags_of(_bucket(ask))
    if not tags:
        raise Refusal("NoSuchTagSet", "The TagSet does not exist", 404)
    return {"TagSet": pairs(tags)}


def _head_bucket(ask: Ask) -> Said:
    return {"BucketRegion": _bucket(ask).state.get("region") or ask.region}


def _delete_bucket(ask: Ask) -> Said:
    bucket, objects = _bucket(ask), _objects(ask)
    if objects:
        words = f"The bucket you tried to delete is not empty: {bucket.id} has {objects[0].key}"
        raise Refusal("BucketNotEmpty", words, 409)
    drop(ask, bucket, SETTINGS)
    return {}


S3: Mapping[str, Answer] = {
    "s3.DeleteBucket": _delete_bucket,
    "s3.DeleteObject": _delete,
    "s3.DeleteObjects": _delete_many,
    "s3.GetBucketTagging": _tagging,
    "s3.GetObject": _get,
    "s3.HeadBucket": _head_bucket,
    "s3.HeadObject": _head,
    "s3.ListBuckets": _list_buckets,
    "s3.ListObjectVersions": _list_versions,
    "s3.ListObjectsV2": _list,
    "s3.PutObject": _put,
}
