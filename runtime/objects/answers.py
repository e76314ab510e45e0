"""What a store's answer means: obstore's exception → Answer. Pure.

obstore tells most faults apart by their text alone, so this module reads text. Its version is
pinned, and the contract suite meets each class on real servers: a text that changes fails there.
"""

import re
from enum import Enum

from obstore.exceptions import (
    AlreadyExistsError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

STATUS = re.compile(r"non-2xx status code: (\d{3})")
NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.I)
# What an upload in parts hears whose end is asked for again, since the first answer was lost.
ENDED_UPLOAD = re.compile(r"NoSuchUpload|InvalidBlockList")
# 400 for what another service would call 408, or for a body that was damaged on its way.
TRANSIENT_400 = re.compile(r"RequestTimeout|BadDigest|InvalidDigest|ContentSHA256Mismatch")
REDIRECT = "redirect without LOCATION"  # S3's answer to a wrong region
NOT_SENT = re.compile(r"kind: (Connect|ConnectionRefused)\b")
NOT_ALLOWED_HTTP = "BadScheme"
SHORT = re.compile(r"StartTooLarge|status code: 416")
KIND = re.compile(r"kind: (\w+)")  # of the parts that the fault is made of, outermost first


class Answer(Enum):
    """What an asker should think."""

    MISSING = "there is no such object"
    NO_STORE = "there is no such bucket"
    EXISTS = "the object is there, or not as demanded"
    SHORT = "the object ends before the range begins"
    REFUSED = "asking again changes nothing"
    LATER = "try again: nothing was done"
    DOUBTFUL = "try again: it may have been done"


def answer_of(fault: BaseException) -> Answer:
    """Class a fault that obstore has raised."""
    text = str(fault)
    found = STATUS.search(text)
    status = int(found[1]) if found else None
    if NO_BUCKET.search(text):
        return Answer.NO_STORE
    if ENDED_UPLOAD.search(text):
        return Answer.DOUBTFUL
    if isinstance(fault, FileNotFoundError):
        return Answer.MISSING
    if SHORT.search(text):
        return Answer.SHORT
    if isinstance(fault, AlreadyExistsError | PreconditionError):
        # S3 says 409 while another conditional write is under way, Azure when the blob is there.
        is_underway = status == 409 and "BlobAlreadyExists" not in text
        return Answer.LATER if is_underway else Answer.EXISTS
    if isinstance(fault, PermissionDeniedError | UnauthenticatedError):
        return Answer.REFUSED
    if status is not None:
        return _answer_of_status(status, text)
    if REDIRECT in text or NOT_ALLOWED_HTTP in text:
        return Answer.REFUSED
    return Answer.LATER if NOT_SENT.search(text) else Answer.DOUBTFUL


def told(fault: BaseException) -> str:
    """The fault in one line; obstore itself blots out an address that holds a signature."""
    text = str(fault)
    lines = text.splitlines() or [type(fault).__name__]
    kinds = [kind for kind in dict.fromkeys(KIND.findall(text)) if kind not in lines[0]]
    return lines[0] + (f" ({', '.join(kinds)})" if kinds else "")


def _answer_of_status(status: int, text: str) -> Answer:
    if status == 429:
        return Answer.LATER
    if status == 408 or (status == 400 and TRANSIENT_400.search(text)):
        return Answer.DOUBTFUL
    if status >= 500 and status != 501:
        return Answer.DOUBTFUL
    return Answer.REFUSED
