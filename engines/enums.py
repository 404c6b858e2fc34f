"""The contract's words, and our own for operations. Unknown words from an API pass through as they are."""

from enum import IntEnum

from django.db.models import TextChoices


class EngineStatus(TextChoices):
    """Contract 3.9."""

    RUNNING = "running", "Running"
    PENDING = "pending", "Pending"
    DRAINING = "draining", "Draining"
    STOPPING = "stopping", "Stopping"
    STOPPED = "stopped", "Stopped"
    DISCONNECTED = "disconnected", "Disconnected"
    RESTARTING = "restarting", "Restarting"


class WorkerStatus(TextChoices):
    RESERVED = "reserved", "Reserved"
    BUSY = "busy", "Busy"
    IDLE = "idle", "Idle"
    INACTIVE = "inactive", "Inactive"


class TaskStatus(IntEnum):
    UNKNOWN = 0
    RECEIVED = 1
    QUEUED = 2
    DISPATCHED = 3
    PREPARING = 4
    SERVING = 5
    SETTING_UP = 6
    RUNNING = 7
    CANCELLING = 8
    UPLOADING = 9
    COMPLETED = 10
    FAILED = 11
    CANCELLED = 12
    REJECTED = 13


class Verb(TextChoices):
    """What a person can ask of an engine: the same word in the enum, the address, the page and the log."""

    DRAIN = "drain", "Drain"
    UPDATE = "update", "Update"
    RESTART = "restart", "Restart"
    STOP = "stop", "Stop"
    EXTEND = "extend", "Extend"
    RENAME = "rename", "Rename"
    DELETE = "delete", "Delete"
    CREATE = "create", "Create"


MONEY = frozenset({Verb.EXTEND, Verb.CREATE})  # verbs that spend it: engines/money sends and settles them


class State(TextChoices):
    """An operation's state. The moves between them are in engines/operations/moves.py."""

    WAITING = "waiting", "Waits for the engine"  # to be sent when the engine is back
    REQUESTED = "requested", "Requested"  # saved; no worker has it yet
    CHECKING = "checking", "Checking"  # money only: price and time are read again before anything is sent
    SENDING = "sending", "Sending"  # one worker is calling the API, or was when it died
    ACCEPTED = "accepted", "Accepted"  # the API said yes; no reading has shown the effect yet
    WORKING = "working", "In progress"  # a reading shows the effect under way
    UNKNOWN = "unknown", "Unknown, checking"  # no answer: readings decide, not a second try
    LOST_CONTACT = "lost_contact", "Lost contact"  # the engine went silent under way
    STUCK = "stuck", "Past its deadline"  # asks a person; nothing is ever cut by a clock
    NEEDS_ATTENTION = "needs_attention", "Needs attention"  # only a person can say how to go on
    SUCCEEDED = "succeeded", "Succeeded"
    NEEDS_RECONFIRM = "needs_reconfirm", "Confirm again"  # what was confirmed had changed; nothing was sent
    REFUSED = "refused", "Refused"  # the API said no; nothing was changed
    FAILED = "failed", "Failed"  # it could not be sent, or ended without its effect
    CANCELLED = "cancelled", "Cancelled"  # taken back before it was sent
    SUPERSEDED = "superseded", "Superseded"  # a stronger operation took its place


UNSENT = (State.REQUESTED, State.CHECKING)  # a purchase: it can be taken back
OPEN = frozenset(
    {
        State.WAITING,
        State.REQUESTED,
        State.CHECKING,
        State.SENDING,
        State.ACCEPTED,
        State.WORKING,
        State.UNKNOWN,
        State.LOST_CONTACT,
        State.STUCK,
        State.NEEDS_ATTENTION,
    }
)
