"""A team with a row of every kind, and what each address needs to be about one of them.

Two of them side by side are what the walks over all addresses walk through: with real ids, a refusal is a refusal.
"""

import os
import uuid
from datetime import timedelta
from decimal import Decimal

from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from allauth.usersessions.models import UserSession
from cryptography.hazmat.primitives.asymmetric import ec
from django.core import signing
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone
from fido2.cose import ES256
from fido2.utils import websafe_encode
from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData, CollectedClientData

from engines import snapshots
from engines.enums import OPEN, State, Verb
from engines.models import Automation, Batch, Ceiling, DayCheck, Engine, Freeze, Limits, Moment, Operation, Proposal
from engines.money import amounts
from engines.money.approve import digest
from engines.money.ledger import book
from engines.money.models import Evidence, Extension, Outcome
from engines.money.quote import Quote
from portal import clock
from portal.accounts.invitations import SALT
from portal.accounts.models import Identity, Invitation, Membership, Team, User
from portal.accounts.roles import Role
from portal.audit.log import record
from portal.audit.models import Check, SavedFilter, Seal
from portal.audit.origin import Origin
from portal.vault.keys import Secret, store
from portal.vault.models import Connection, StoredKey

PASSWORD = "correct horse battery"
TOTP_KEY = "JBSWY3DPEHPK3PXP"
CAST = {"ada": Role.ADMIN, "olga": Role.OPERATOR, "bill": Role.BILLING, "audra": Role.AUDITOR, "victor": Role.VIEWER}
BATCHES = ("batch", "batch-stop", "batch-approve")
PROPOSALS = ("cloud-time-approve", "cloud-time-reject")
# The addresses about a row of the person's own, by a number that only they have.
OWN_NUMBER = {
    "session-end": UserSession,
    "sso-unlink": Identity,
    "passkey-remove": Authenticator,
    "audit-filter-forget": SavedFilter,
}


def patterns(resolver=None):
    for entry in (resolver or get_resolver()).url_patterns:
        if isinstance(entry, URLResolver):
            yield from patterns(entry)
        elif isinstance(entry, URLPattern):
            yield entry


CONVERTERS = {entry.name: entry.pattern.converters for entry in patterns()}


class World:
    """The team's rows. `text` is in every field that a person, an API or an engine fills in."""

    def __init__(self, slug, text, base_url="http://127.0.0.1:1"):
        self.slug, self.text = slug, text
        self.team = Team.objects.create(slug=slug, name=text[:100])
        self.memberships = {}
        self.people = {name: self._member(name, role) for name, role in CAST.items()}
        self.connection = Connection.objects.create(
            team=self.team, name=text[:100], base_url=base_url, last_error=text[:300]
        )
        self.keys = {name: self.store_key(user) for name, user in self.people.items()}
        self._read_engines()
        self._operations()
        self._money()
        self._team()
        for user in self.people.values():
            self._own(user)
        for name in ("drain", "update", "restart"):  # of every kind of target, and what was before and after
            self.audit(f"operation.{name}", self.engine)
        self.audit("member.role", self.people["victor"])
        self.entry = self.audit("connection.changed", self.connection)

    def _member(self, name, role):
        user = User.objects.create_user(f"{name}@{self.slug}.example", PASSWORD, name=f"{name} {self.text}"[:100])
        self.memberships[name] = Membership.objects.create(user=user, team=self.team, role=role).pk
        return user

    def store_key(self, user):
        secret = Secret(f"inf_{self.slug}_{user.pk}_secret")
        made = store(user=user, connection=self.connection, secret=secret, label=self.text[:100], scopes=["*"])
        StoredKey.objects.filter(pk=made.pk).update(refused_reads=[self.text[:100]])
        return made

    def _read_engines(self):
        self.uid = f"eng_{self.slug}"
        self.cloud_uid = f"eng_{self.slug}_cloud"
        busy_in = {state: f"eng_{self.slug}_{state}" for state in State if state in OPEN}
        snapshots.apply(
            self.connection,
            [
                engine_of(self.uid, self.text, status="running"),
                engine_of(self.cloud_uid, self.text, status="running", paid=True),
                engine_of(f"eng_{self.slug}_lone", self.text),
                engine_of(f"eng_{self.slug}_off", self.text, status="disconnected"),
                engine_of(f"eng_{self.slug}_odd", self.text, status=self.text[:40]),
                *(engine_of(uid, self.text, paid=True) for uid in busy_in.values()),
            ],
            read_at=clock.now(),
        )
        engines = {engine.uid: engine for engine in Engine.objects.of(self.team)}
        self.lone = engines[f"eng_{self.slug}_lone"]
        self.engine, self.cloud = engines[self.uid], engines[self.cloud_uid]
        self.busy = {state: engines[uid] for state, uid in busy_in.items()}

    def _operations(self):
        self.batch = Batch.objects.create(
            verb=Verb.DRAIN,
            not_asked=[{"uid": self.uid, "name": self.text[:200], "why": self.text[:200]}],
            **self._asked(),
        )
        self.operations = {state: self._operation(state, Verb.DRAIN, batch=self.batch) for state in State}
        # Ada's own, on an engine that nothing else is done to: only who asked sends again.
        self.own_unclear = self._operation(State.NEEDS_ATTENTION, Verb.DRAIN, engine=self.lone, by="ada")
        # What each step takes a purchase in.
        self.cancellable = self._operation(State.CHECKING, Verb.EXTEND)
        self.unclear = self._operation(State.NEEDS_ATTENTION, Verb.EXTEND)

    def _asked(self, by="olga"):
        return {
            "team": self.team,
            "reason": self.text[:500],
            "requested_by": self.people[by],
            "requested_name": f"{by} {self.text}"[:150],
            "requested_at": clock.now(),
        }

    def _operation(self, state, verb, engine=None, by="olga", **more):
        now = clock.now()
        made = Operation.objects.create(
            engine=engine or self.busy.get(state, self.engine),
            engine_name=self.text[:200],
            verb=verb,
            state=state,
            parameters={"version": self.text[:60], "name": self.text[:100]},
            role=Role.OPERATOR,
            request_id=f"request-of-{self.slug}",
            address="10.0.0.9",
            key=self.keys[by],
            key_label=self.text[:120],
            deadline_at=now + timedelta(hours=2),
            note=self.text[:300],
            progress={"running": [{"worker": self.text[:60], "task": self.text[:60], "app": self.text[:60]}]},
            answer={"status": 409, "code": self.text[:60], "detail": self.text, "body": self.text},
            moved_at=now,
            next_at=now if state in OPEN else None,
            finished_at=None if state in OPEN else now,
            **self._asked(by),
            **more,
        )
        Moment.objects.create(operation=made, at=now, state=state, text=self.text[:300])
        return made

    def _money(self):
        paid, now = amounts.paid_time(self.cloud), clock.now()
        for operation in (self.cancellable, self.unclear):
            Extension.objects.create(
                operation=operation,
                team=self.team,
                hours=Decimal(3),
                target=paid.threshold + timedelta(hours=3),
                seen_threshold=paid.threshold,
                seen_price=paid.price,
                cost=amounts.cost(paid.price, Decimal(3)),
                approved_name=self.text[:150],
            )
        bought = self._operation(State.SUCCEEDED, Verb.EXTEND)
        Extension.objects.create(
            operation=bought,
            team=self.team,
            hours=Decimal(2),
            target=paid.threshold,
            seen_threshold=paid.threshold - timedelta(hours=2),
            seen_price=paid.price,
            cost=amounts.cost(paid.price, Decimal(2)),
            outcome=Outcome.CONFIRMED,
            before=paid.threshold - timedelta(hours=2),
            approved_name=self.text[:150],
        )
        self.ledger = book(bought, Outcome.CONFIRMED, Evidence.ANSWER, after=paid.threshold, at=now, by=None)
        self.purchases = Batch.objects.create(verb=Verb.EXTEND, **self._asked())
        self.proposal = self._proposal()
        self.second = self._proposal()
        self._proposal(batch=self.purchases)
        Limits.objects.create(team=self.team)
        Ceiling.objects.create(team=self.team)
        facts = {"begin": now - timedelta(days=1), "end": now, "ledger_hours": 2, "moved_hours": 7}
        DayCheck.objects.create(team=self.team, engine=self.cloud, day=now.date(), read_at=now, **facts)

    def _proposal(self, **more):
        quote, now = Quote.more(amounts.hours_of("4"), amounts.paid_time(self.cloud)), clock.now()
        made = Proposal(
            id=quote.id,
            team=self.team,
            engine=self.cloud,
            requested_by=self.people["bill"],
            role=Role.BILLING,
            request_id="",
            key=self.keys["bill"],
            reason=self.text[:500],
            parameters=quote.parameters(),
            at=now,
            expires_at=now + timedelta(minutes=30),
            **more,
        )
        made.digest = digest(made)
        made.save()
        return made

    def _team(self):
        ada, now = self.people["ada"], timezone.now()
        self.invitation = Invitation.objects.create(
            team=self.team,
            email=f"new@{self.slug}.example",
            role=Role.VIEWER,
            nonce=uuid.uuid4().hex[:22],
            invited_by=ada,
            invited_name=self.text[:150],
            expires_at=now + timedelta(days=7),
        )
        Check.objects.create(team=self.team, at=now, number=1, fault=self.text[:300])
        facts = {"prev_hash": "0" * 64, "last_hash": "0" * 64, "sha256": "0" * 64, "key_id": "", "signature": ""}
        Seal.objects.create(team=self.team, first=0, last=0, file=self.text[:200], at=now, **facts)
        Automation.objects.update_or_create(worker="worker@host", defaults={"seen_at": clock.now()})

    def _own(self, user):
        Identity.objects.create(user=user, issuer="https://id.example", subject=f"{self.text[:100]}{user.pk}")
        TOTP.activate(user, TOTP_KEY)
        Authenticator.objects.create(user=user, type="webauthn", data={"name": self.text, "credential": passkey()})
        RecoveryCodes.activate(user)
        SavedFilter.objects.create(team=self.team, user=user, name=self.text[:60], query="?q=a")
        self.sign_in_elsewhere(user)

    def sign_in_elsewhere(self, user):
        elsewhere = Client()
        elsewhere.force_login(user)
        facts = {"session_key": elsewhere.session.session_key, "ip": "10.0.0.9", "user_agent": self.text[:200]}
        UserSession.objects.create(user=user, **facts)

    def audit(self, action, target):
        return record(
            team=self.team,
            actor=self.people["ada"],
            action=action,
            target=target,
            origin=Origin(request_id=f"request-of-{self.slug}", address="10.0.0.9", role="admin"),
            reason=self.text,
            before={"name": self.text},
            after={"name": f"new {self.text}"},
            note=self.text,
            operation_id=str(self.operations[State.SUCCEEDED].pk),
        )

    def freeze(self):
        return Freeze.objects.create(team=self.team, at=clock.now(), by=self.text[:150], reason=self.text[:500])

    def arguments(self, name, person="ada"):
        """What the address of that name takes, for it to be about a row of this team, or of this person of it."""
        ids = {
            "uid": self.cloud_uid if name in ("engine-extend", "engine-rename") else self.uid,
            "pk": self._pk(name, person),
            "number": self._number(name, self.people[person]),
            "member": self.memberships["victor"],
            "key": self.keys[person].pk,
            "connection": self.connection.pk,
            "invitation": self.invitation.pk,
            "token": signing.dumps([self.invitation.pk, self.invitation.nonce], salt=SALT),
        }
        return {each: ids[each] for each in CONVERTERS[name]}

    def _pk(self, name, person):
        if name in BATCHES:  # one that the person may stop, or approve
            return (self.purchases if name == "batch-approve" or person == "bill" else self.batch).pk
        if name in PROPOSALS:
            return self.proposal.pk
        steps = {"cloud-time-cancel": self.cancellable, "cloud-time-resolve": self.unclear}
        steps["operation-send-again"] = self.operations[State.NEEDS_ATTENTION]
        steps["operation-cancel"] = self.operations[State.REQUESTED]
        return steps.get(name, self.operations[State.STUCK]).pk

    def _number(self, name, user):
        if name not in OWN_NUMBER:
            return self.entry.number
        rows = OWN_NUMBER[name].objects.filter(user=user)
        return (rows.filter(type="webauthn") if name == "passkey-remove" else rows).latest("pk").pk

    def url(self, name, person="ada"):
        return reverse(name, kwargs=self.arguments(name, person)) + self.query(name)

    def query(self, name):
        """What an address is about beside its path: engines that are chosen, or a place for a new one."""
        if name.startswith("bulk-"):
            return f"?uid={self.cloud_uid if name == 'bulk-extend' else self.uid}"
        if name == "cloud-time-resolve":
            return "?applied=no"
        if name == "engine-new-waiting":
            return f"?connection={self.connection.pk}&name=gpu"
        return ""

    def form(self, name):
        """What its form says, as far as it is not about what a page has shown before."""
        said = {"reason": "Kernel patch"}
        if name == "batch-approve":
            return said | {"digest": ""}
        forms = {
            "cloud-time-approve": said | {"digest": self.proposal.digest},
            "keys": {"connection": self.connection.pk},
            "member-role": {"role": "operator"},
            "invite": {"email": f"another@{self.slug}.example", "role": "viewer"},
            "team-switch": {"team": self.slug},
            "connection": {"name": "Renamed", "address": self.connection.base_url},
            "audit-export": {"format": "csv"},
            "audit-filter-save": {"name": "mine"},
        }
        return forms.get(name, said)


def passkey():
    """What a browser has answered when the passkey was made."""
    public = ES256.from_cryptography_key(ec.generate_private_key(ec.SECP256R1()).public_key())
    credential = AttestedCredentialData.create(b"\0" * 16, os.urandom(16), public)
    made = AuthenticatorData.create(b"\0" * 32, AuthenticatorData.FLAG.UP | AuthenticatorData.FLAG.AT, 0, credential)
    client = CollectedClientData.create("webauthn.create", "", "https://portal.example")
    said = {"clientDataJSON": client, "attestationObject": AttestationObject.create("none", made, {})}
    name = websafe_encode(credential.credential_id)
    answer = {part: websafe_encode(value) for part, value in said.items()}
    return {"id": name, "rawId": name, "type": "public-key", "response": answer, "clientExtensionResults": {}}


def engine_of(uid, text, status="running", paid=False):
    """The contract's Engine that says the text wherever it can."""
    gpu = {"gpu_id": text, "name": text, "type": text, "vram": 1}
    worker = {"id": text, "index": 0, "status": "busy", "task_id": text, "app_id": text, "warm_apps": [text]}
    odd = worker | {"index": 1, "status": text, "gpus": [gpu], "task_id": None}
    machine = dict.fromkeys(("cloud", "name", "region", "shade_instance_type", "status", "ip", "error"), text)
    machine |= {"auto_delete": {"date_threshold": text, "spend_threshold": text}, "hourly_price": text}
    if paid:
        ends = (clock.now() + timedelta(hours=5)).isoformat()
        machine |= {"hourly_price": 250, "auto_delete": {"date_threshold": ends}}
    host = {"hostname": text, "os": text, "cpus": [{"name": text, "cores": 4}], "gpus": [{"name": text}]}
    return {
        "id": uid,
        "name": text,
        "status": status,
        "created_at": "2026-11-01T00:00:00Z",
        "engine_version": text[:60],
        "engine_pin": text,
        "system_info": host | {"ram": {"total": 2**34}},
        "api_url": text,
        "update": {"asked": text, "phase": text, "version": text, "error": text},
        "workers": [worker, odd],
        **({"instance": machine} if paid or status == text[:40] else {}),
    }
