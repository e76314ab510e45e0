"""What a cloud's room looked up before the plan decides: the only input beside the spec."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """About the machine or account that the stack will stand on."""

    cores: int
    data_files: int
    data_bytes: int
    data: str | None = None  # `training.data` as nodes will find it; None: as it is written
    texts: str | None = None  # where the text is that goes to the store of data
    data_fault: str | None = None  # why the data can't be used; None if it can


# Of a rented cloud whose nodes find their own text: machines and prices stand in tables.
UNSEEN = Facts(cores=1, data_files=0, data_bytes=0)
