"""The control plane's tables live in a database of their own: it is another service that happens to ship here."""

from typing import Any


class Router:
    app = "controlplane"

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "controlplane" if model._meta.app_label == self.app else "default"

    db_for_write = db_for_read

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        return self.db_for_read(one) == self.db_for_read(other)

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return (db == "controlplane") == (app_label == self.app)
