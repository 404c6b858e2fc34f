"""Who may reach which address: one table. An address that is not in it is closed to everybody."""

from typing import Final

from portal.accounts.roles import Role

PUBLIC: Final = "public"  # no sign-in needed
SIGNED_IN: Final = "signed in"  # any member of the team
Who = str | frozenset[Role]

ALL = frozenset(Role)
ADMINS = frozenset({Role.ADMIN})
OPERATORS = frozenset({Role.OPERATOR, Role.ADMIN})
MONEY = frozenset({Role.BILLING, Role.ADMIN})
AUDITORS = frozenset({Role.AUDITOR, Role.ADMIN})
WRITERS = ALL - {Role.AUDITOR}

# URL name → method → who. HEAD and OPTIONS count as GET.
TABLE: dict[str, dict[str, Who]] = {
    "home": {"GET": PUBLIC},
    "account_login": {"GET": PUBLIC, "POST": PUBLIC},
    "account_logout": {"GET": PUBLIC, "POST": PUBLIC},
    "account": {"GET": SIGNED_IN},
    "session-end": {"POST": SIGNED_IN},
    "sessions-end-others": {"POST": SIGNED_IN},
    "account_change_password": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "confirmed": {"GET": SIGNED_IN},
    "mfa_authenticate": {"GET": PUBLIC, "POST": PUBLIC},
    "mfa_login_webauthn": {"GET": PUBLIC, "POST": PUBLIC},
    "mfa_reauthenticate": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "mfa_reauthenticate_webauthn": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "second-factor": {"GET": SIGNED_IN},
    "mfa_activate_totp": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "mfa_deactivate_totp": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "passkey-add": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "passkey-remove": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "mfa_view_recovery_codes": {"GET": SIGNED_IN},
    "recovery-codes-new": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "sso": {"POST": PUBLIC},
    "sso-callback": {"GET": PUBLIC},
    "sso-confirm": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "sso-link": {"POST": SIGNED_IN},
    "sso-unlink": {"POST": SIGNED_IN},
    "account_reauthenticate": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "healthz": {"GET": PUBLIC},
    "readyz": {"GET": PUBLIC},
    "metrics": {"GET": PUBLIC},  # the view answers this machine alone
    "csp-report": {"POST": PUBLIC},
    "live": {"GET": SIGNED_IN},
    "engines": {"GET": ALL},
    "engine-new": {"GET": ADMINS, "POST": ADMINS},
    "engine-types": {"GET": ADMINS},
    "engine-create": {"GET": ADMINS, "POST": ADMINS},
    "engine-new-waiting": {"GET": ADMINS},
    "engine": {"GET": ALL},
    "engine-drain": {"GET": OPERATORS, "POST": OPERATORS},
    "engine-update": {"GET": OPERATORS, "POST": OPERATORS},
    "engine-restart": {"GET": OPERATORS, "POST": OPERATORS},
    "engine-stop": {"GET": ADMINS, "POST": ADMINS},
    "engine-rename": {"GET": OPERATORS, "POST": OPERATORS},
    "engine-delete": {"GET": ADMINS, "POST": ADMINS},
    "bulk-drain": {"GET": OPERATORS, "POST": OPERATORS},
    "bulk-update": {"GET": OPERATORS, "POST": OPERATORS},
    "bulk-restart": {"GET": OPERATORS, "POST": OPERATORS},
    "bulk-rename": {"GET": OPERATORS, "POST": OPERATORS},
    "bulk-stop": {"GET": ADMINS, "POST": ADMINS},
    "bulk-delete": {"GET": ADMINS, "POST": ADMINS},
    "batch": {"GET": ALL},
    "bulk-extend": {"GET": MONEY, "POST": MONEY},
    "batch-stop": {"GET": OPERATORS | MONEY, "POST": OPERATORS | MONEY},  # those of them that may ask for it
    "batch-approve": {"GET": MONEY, "POST": MONEY},
    "engine-extend": {"GET": MONEY, "POST": MONEY},
    "cloud-time": {"GET": ALL},
    "cloud-time-csv": {"POST": ALL},
    "cloud-time-approve": {"GET": MONEY, "POST": MONEY},
    "cloud-time-reject": {"GET": MONEY, "POST": MONEY},
    "cloud-time-cancel": {"GET": MONEY, "POST": MONEY},
    "cloud-time-resolve": {"GET": MONEY, "POST": MONEY},
    "cloud-time-freeze": {"GET": MONEY, "POST": MONEY},
    "cloud-time-limits": {"GET": MONEY, "POST": MONEY},  # the view holds Billing to the ceiling
    "cloud-time-ceiling": {"GET": ADMINS, "POST": ADMINS},
    "operations": {"GET": ALL},
    "operation": {"GET": ALL},
    "operation-cancel": {"GET": OPERATORS, "POST": OPERATORS},
    "operation-keep-waiting": {"GET": OPERATORS, "POST": OPERATORS},
    "operation-send-again": {"GET": OPERATORS, "POST": OPERATORS},
    "operation-close": {"GET": OPERATORS, "POST": OPERATORS},
    "connections": {"GET": ADMINS},
    "connection-new": {"GET": ADMINS, "POST": ADMINS},
    "connection": {"GET": ADMINS, "POST": ADMINS},
    "connection-remove": {"GET": ADMINS, "POST": ADMINS},
    "keys": {"GET": ALL, "POST": WRITERS},
    "key-test": {"POST": WRITERS},
    "key-revoke": {"GET": WRITERS, "POST": WRITERS},
    "team": {"GET": ALL},
    "invite": {"GET": ADMINS, "POST": ADMINS},
    "invitation-resend": {"POST": ADMINS},
    "invitation-revoke": {"POST": ADMINS},
    "join": {"GET": PUBLIC, "POST": PUBLIC},  # its link is signed
    "member": {"GET": ADMINS},
    "member-role": {"POST": ADMINS},
    "member-remove": {"POST": ADMINS},
    "team-switch": {"POST": SIGNED_IN},
    "audit": {"GET": AUDITORS},
    "audit-entry": {"GET": AUDITORS},
    "audit-export": {"POST": AUDITORS},
    "audit-filter-save": {"POST": AUDITORS},
    "audit-filter-forget": {"POST": AUDITORS},
}


# What is open to somebody who must set up a second factor first: setting one up, and confirming, which that takes.
TO_A_SECOND_FACTOR = frozenset(
    {
        "second-factor",
        "mfa_activate_totp",
        "passkey-add",
        "account_reauthenticate",
        "sso-confirm",
        "confirmed",
    }
)


def who(url_name: str, method: str) -> Who:
    """Return who may; nobody if the table does not say."""
    asked = "GET" if method in ("HEAD", "OPTIONS") else method
    return TABLE.get(url_name, {}).get(asked, frozenset())


def may(role: str, url_name: str, method: str = "POST") -> bool:
    """Say whether a member with this role may: for pages, which disable what the server would refuse."""
    allowed = who(url_name, method)
    return isinstance(allowed, str) or role in allowed
