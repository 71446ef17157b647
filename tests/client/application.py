"""State types of an imaginary application, in each of the three kinds, and its own statuses."""

from __future__ import annotations

import dataclasses
import enum
from datetime import UTC, datetime
from typing import Any

import msgspec
import pydantic


class Status(str, enum.Enum):  # noqa: UP042 # applications have such enums, and we take them
    PENDING = "pending"
    RUNNING = "running"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    PAUSED = "paused"


class PydanticSheet(pydantic.BaseModel):
    sheet_num: int = pydantic.Field(ge=1)
    status: Status = Status.PENDING
    attempt_count: int = 0
    started_at: datetime | None = None
    fire_at: datetime | None = None
    tags: set[str] = set()


class PydanticJob(pydantic.BaseModel):
    job_id: str
    job_name: str = ""
    total_sheets: int = pydantic.Field(ge=1)
    status: Status = Status.PENDING
    created_at: datetime = pydantic.Field(default_factory=lambda: datetime.now(UTC))
    updated_at: datetime = pydantic.Field(default_factory=lambda: datetime.now(UTC))
    pid: int | None = None
    sheets: dict[int, PydanticSheet] = {}
    quota_waits: int = 0
    worktree: dict[str, Any] | None = None


@dataclasses.dataclass
class DataclassSheet:
    sheet_num: int
    status: Status = Status.PENDING
    attempt_count: int = 0
    started_at: datetime | None = None
    fire_at: datetime | None = None
    tags: set[str] = dataclasses.field(default_factory=set)


@dataclasses.dataclass
class DataclassJob:
    job_id: str
    total_sheets: int
    job_name: str = ""
    status: Status = Status.PENDING
    created_at: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))
    updated_at: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))
    pid: int | None = None
    sheets: dict[int, DataclassSheet] = dataclasses.field(default_factory=dict)
    quota_waits: int = 0
    worktree: dict[str, Any] | None = None


class StructSheet(msgspec.Struct):
    sheet_num: int
    status: Status = Status.PENDING
    attempt_count: int = 0
    started_at: datetime | None = None
    fire_at: datetime | None = None
    tags: set[str] = set()


class StructJob(msgspec.Struct, kw_only=True):
    job_id: str
    job_name: str = ""
    total_sheets: int
    status: Status = Status.PENDING
    created_at: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))
    updated_at: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))
    pid: int | None = None
    sheets: dict[int, StructSheet] = {}
    quota_waits: int = 0
    worktree: dict[str, Any] | None = None


KINDS: dict[str, tuple[Any, Any]] = {
    "pydantic": (PydanticJob, PydanticSheet),
    "dataclass": (DataclassJob, DataclassSheet),
    "struct": (StructJob, StructSheet),
}
