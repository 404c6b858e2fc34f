"""What a person can do about each error code of the Engines API (contract 5): one table. No Django.

The API's own sentence says what happened; this says how to go on. Codes are open strings: an unknown one is
answered by its status.
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engines.api.redact import RAW_LIMIT, mask

ON_KEYS_PAGE = "on the Keys page"
KEY = f"Store another key {ON_KEYS_PAGE}, then try again."
ROLE = "The account that made your key may not do this. Ask an admin of that account, or use a key of somebody who may."
PAY = "Top up the balance or change the limit where the API is billed, then try again. Nothing was charged."
LOOK = "Look at how the engine stands now, then try again if it is still needed."
INPUT = "Correct what was entered, then try again. Nothing was changed."
WAIT = "Wait a moment, then try again."
SETTING = "This is set up at the API, not here: ask whoever runs it."
CLOUD = "Look at the machine at its cloud before you try again: it may have happened."
SESSION = "The session of that worker is over. Start a new one."

ADVICE = {
    "unauthorized": f"The API does not know your key: it may have been revoked. {KEY}",
    "forbidden": f"Your key may not do this; most likely it lacks the scope engines:write. {KEY}",
    "insufficient_scope": f"Your key lacks a scope that this needs. {KEY}",
    "requires_sign_in": f"The API wants a person to sign in there; a key does not do. {SETTING}",
    "person_required": f"The API wants a person for this; a key does not do. {SETTING}",
    "otp_required": "The API asks for a one-time code, which a key cannot give. Do this one in its own console.",
    "account_deactivated": f"The account of your key is switched off at the API. {SETTING}",
    "account_banned": f"The account of your key is banned at the API. {SETTING}",
    "team_role_required": ROLE,
    "not_found": "The API does not know it any more, or never showed it to your key. Reload the list of engines.",
    "engine_offline": "The engine has no connection. Start it on its host, or ask for a drain when it comes back.",
    "engine_draining": "The engine drains and takes nothing new. Wait until it is done, or use another engine.",
    "extend_failed": "Its paid time cannot be extended as it stands. Look at its machine; nothing was charged.",
    "payment_required": PAY,
    "payment_method_required": "No means of payment is stored with the API. Add one there; nothing was charged.",
    "limit_exceeded": PAY,
    "feature_not_available": "The account's plan at the API does not have this. Change the plan there.",
    "entitlement_unavailable": f"The API could not look up what the account's plan has. {WAIT}",
    "rate_limited": "Too many requests in a short time. Wait a minute, then try again.",
    "internal_error": "Something broke inside the API. Try again later, and give its operator the request id.",
    "app_maintenance": "The API is being worked on. Try again when it is back.",
    "invalid_request": INPUT,
    "validation_error": INPUT,
    "payload_too_large": "What was sent is too large for the API. Send less.",
    "method_not_allowed": "This API is of a version that does not know this action. Ask whoever runs it for an update.",
    "requirements_not_met": "The engine's hardware does not have what this needs. Choose another engine.",
    "conflict": LOOK,
    "name_conflict": "Another engine has that name. Choose another one.",
    "already_exists": "There is one of that name already. Choose another name.",
    "invalid_transition": LOOK,
    "not_configured": f"The API lacks a setting for this. {SETTING}",
    "restart_unsupported": "Only rented machines can be restarted from here. Restart this one on its host.",
    "request_in_progress": f"The same request is still under way at the API. {WAIT}",
    "outcome_unknown": f"An earlier request of the same form got no answer. {LOOK}",
    "shown_once": "It was carried out, and its answer is shown only once. If that was lost, revoke what it made.",
    "create_failed": "The cloud did not rent out this machine. Choose another type or region; nothing was spent.",
    "provider_unclear": f"The cloud gave no clear answer. {CLOUD}",
    "releases_unavailable": "Where engine versions are kept, nothing answers. Try again later, or type a version.",
    "timeout": f"No answer came in time. {LOOK}",
    "remote_offline": "The other side is offline. Wait until it is back, then try again.",
    "remote_timeout": f"The other side did not answer in time. {LOOK}",
    "WORKER_LEASED": "The worker is taken by a session. Wait until that ends, or use another worker.",
    "APP_MISMATCH": "The worker's session runs another app. Start a session for this one.",
    "VERSION_MISMATCH": "The worker's session runs another version of the app. Start a new session.",
    "SESSION_NOT_FOUND": SESSION,
    "SESSION_EXPIRED": SESSION,
    "SESSION_ENDED": SESSION,
}

READ_AGAIN = f"This was only to be read: nothing was changed. {WAIT}"
READING = dict.fromkeys(("timeout", "remote_timeout"), READ_AGAIN)

BY_STATUS = {
    401: ADVICE["unauthorized"],
    402: ADVICE["payment_required"],
    403: ADVICE["forbidden"],
    404: ADVICE["not_found"],
    409: ADVICE["conflict"],
    413: ADVICE["payload_too_large"],
    429: ADVICE["rate_limited"],
}


def advice(code: str, status: int) -> str:
    """Return how to go on after an answer with this code and HTTP status; "" where nothing came back to speak of."""
    if code in ADVICE:
        return ADVICE[code]
    if status >= 500:
        return ADVICE["internal_error"]
    return BY_STATUS.get(status, INPUT if status >= 400 else "")


@dataclass(frozen=True)
class WentWrong:
    """What went wrong, for people. `raw` is the answer itself, "" where none came back."""

    words: str
    advice: str
    raw: str


def went_wrong(answer: Mapping[str, Any]) -> WentWrong | None:
    """Return what people are told of an answer as it is kept (errors.answer_of); None if there is none."""
    if not answer:
        return None
    status = int(answer.get("status") or 0)
    how = advice(str(answer.get("code") or ""), status)
    return WentWrong(str(answer.get("message") or ""), how, _word_for_word(status, str(answer.get("raw") or "")))


def reading_went_wrong(answer: Mapping[str, Any]) -> WentWrong | None:
    """As `went_wrong`, where nothing was asked of an engine: there is none to look at."""
    wrong = went_wrong(answer)
    return wrong and replace(wrong, advice=READING.get(str(answer.get("code") or ""), wrong.advice))


def said_there(text: str, where: str) -> str:
    """Return what is said on the Keys page itself, with `where` on it a key is entered in place of the way there."""
    return text.replace(ON_KEYS_PAGE, where)


def _word_for_word(status: int, raw: str) -> str:
    if not status:
        return ""
    with contextlib.suppress(ValueError, RecursionError):
        raw = json.dumps(json.loads(raw), indent=2, ensure_ascii=False)
    return f"HTTP {status}\n{mask(raw)[: 2 * RAW_LIMIT]}".rstrip()
