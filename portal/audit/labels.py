"""What an action is called in a sentence: "Ada Admin *asked to drain* gpu-1", "Ada Admin *signed in*"."""

LABELS = {
    "engine.extend": "asked to extend",
    "engine.drain": "asked to drain",
    "batch.drain": "asked for a",  # the target says what of: “Drain of many engines”
    "engine.update": "asked to update",
    "engine.restart": "asked to restart",
    "engine.stop": "asked to stop",
    "engine.delete": "asked to delete",
    "engine.rename": "asked to rename",
    "operation.requested": "had an operation sent again on",
    "operation.working": "keeps waiting for an operation on",
    "operation.succeeded": "saw an operation succeed on",
    "operation.needs_reconfirm": "found price or time changed before extending",
    "operation.refused": "saw an operation refused on",
    "operation.failed": "saw an operation fail on",
    "operation.cancelled": "cancelled an operation on",
    "operation.superseded": "replaced an operation on",
    "operation.unknown": "got no answer about an operation on",
    "operation.lost_contact": "lost contact during an operation on",
    "operation.stuck": "saw an operation pass its deadline on",
    "operation.needs_attention": "found an operation needing attention on",
    "operation.late_answer": "got an answer too late about an operation on",
    "operation.redirected": "was sent to another address by the API of",
    "cloudtime.charged": "booked paid time of",
    "cloudtime.resolved": "settled an unclear extension of",
    "cloudtime.proposed": "asked for approval to extend",
    "cloudtime.approved": "approved extending",
    "cloudtime.rejected": "rejected extending",
    "cloudtime.refused": "was refused extending",
    "cloudtime.frozen": "froze spending of",
    "cloudtime.thawed": "let spending go on for",
    "cloudtime.limits": "changed the spending limits of",
    "key.stored": "stored the API key",
    "member.added": "gave a role to",
    "member.changed": "changed the role of",
    "member.removed": "removed from the team",
    "connection.added": "added the connection",
    "audit.sealed": "moved old entries to a sealed file of",
    "audit.exported": "exported entries of",
    "person.password": "changed the password of",
    "session.started": "signed in",
    "session.ended": "signed out",
    "session.refused": "was refused at sign-in",
}


def label(action: str) -> str:
    """Return the words; an action without words shows itself."""
    return LABELS.get(action, action)
