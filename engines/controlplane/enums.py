"""The control plane's own words: what a row is, whatever the wire calls it."""

from enum import StrEnum

from django.db import models

from engines.enums import TaskStatus


class EngineState(models.TextChoices):
    """Where an engine is in its life. Whether it is connected is another fact: `Engine.session`."""

    PENDING = "pending"  # registered, never connected
    RUNNING = "running"
    DRAINING = "draining"  # takes nothing new, for good: only `drained` ends it
    STOPPING = "stopping"  # the same, and its machine goes too
    RESTARTING = "restarting"  # its process or machine is being replaced
    STOPPED = "stopped"


# Taking nothing new until the engine says that it is idle.
EMPTYING = (EngineState.DRAINING, EngineState.STOPPING)


class FollowUp(models.TextChoices):
    """What becomes of an engine once it is drained."""

    NOTHING = "", "stay stopped"
    UPDATE = "update"  # swap the binary and go on
    RESTART = "restart"  # restart its machine and go on
    STOP = "stop"  # and give its machine back


class UpdatePhase(models.TextChoices):
    NONE = "", "never asked"
    ASKED = "asked"
    FETCHING = "fetching"
    READY = "ready"  # being drained for it, or restarting
    CURRENT = "current"  # there was nothing newer
    DONE = "done"
    FAILED = "failed"


class InstanceStatus(models.TextChoices):
    """Contract 3.9. A provider may say others, which pass through."""

    CREATING = "creating"
    PENDING_PROVIDER = "pending_provider"
    PENDING = "pending"
    ACTIVE = "active"
    ERROR = "error"
    DELETING = "deleting"
    DELETED = "deleted"


class ExtensionState(models.TextChoices):
    HELD = "held"
    DONE = "done"
    REFUSED = "refused"


class EntryKind(models.TextChoices):
    DEPOSIT = "deposit"
    CREATE = "create"
    EXTEND = "extend"
    REFUND = "refund"


class Visibility(models.TextChoices):
    """Recorded and shown. Who may see an engine is its team, whatever this says."""

    PRIVATE = "private"
    TEAM = "team"
    ORG = "org"
    PUBLIC = "public"
    UNLISTED = "unlisted"


class Infra(StrEnum):
    CLOUD = "cloud"
    PRIVATE = "private"
    PRIVATE_FIRST = "private_first"


class OnEngineLoss(models.TextChoices):
    """What becomes of a task that ran when its engine's process died."""

    FAIL = "fail"
    REQUEUE = "requeue"


class EventKind(models.TextChoices):
    QUEUED = "queued"
    WAITING = "waiting"
    DISPATCHED = "dispatched"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    REQUEUED = "requeued"
    CANCELLING = "cancelling"
    LOG = "log"
    ENDED = "ended"
    LATE = "late"  # a result that came after the task had ended otherwise


# A worker is taken by a task in one of these.
LIVE = (
    TaskStatus.DISPATCHED,
    TaskStatus.PREPARING,
    TaskStatus.SERVING,
    TaskStatus.SETTING_UP,
    TaskStatus.RUNNING,
    TaskStatus.CANCELLING,
    TaskStatus.UPLOADING,
)
ENDED = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.REJECTED)

MOVES: dict[TaskStatus, tuple[TaskStatus, ...]] = {
    TaskStatus.QUEUED: (TaskStatus.DISPATCHED, *ENDED),
    TaskStatus.DISPATCHED: (TaskStatus.RUNNING, TaskStatus.QUEUED, TaskStatus.CANCELLING, *ENDED),
    TaskStatus.RUNNING: (TaskStatus.QUEUED, TaskStatus.CANCELLING, *ENDED),
    TaskStatus.CANCELLING: ENDED,
}

# What a result frame says, as a status.
RESULTS = {
    "completed": TaskStatus.COMPLETED,
    "failed": TaskStatus.FAILED,
    "cancelled": TaskStatus.CANCELLED,
}
