"""Second factors: codes of an authenticator app, passkeys, recovery codes; django-allauth's, as used here."""
