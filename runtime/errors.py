"""The error tree. An exception's class says who acts.

AtollError
├── Unavailable   the world may mend it: retry, with a limit
├── Conflict      somebody else won: read again, think again
├── Missing       there is no such object
├── Corrupt       what was read is not what was written: stop, keep the evidence
└── Refused       the asker must change something first

A message has four parts where they apply: where, found, allowed, do.
"""


class AtollError(Exception):
    """Base of all errors that Atoll raises on purpose; never raised itself."""


class Unavailable(AtollError):
    """A store, peer or service did not answer or said it can't now."""


class Conflict(AtollError):
    """A decision was already taken by somebody else."""


class Missing(AtollError):
    """An object that was asked for is not there."""


class Corrupt(AtollError):
    """A digest, size or format does not fit what the manifest or the spec says."""


class Refused(AtollError):
    """A setting, request or command that can't be carried out as it stands."""
