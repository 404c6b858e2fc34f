from django.apps import AppConfig
from prometheus_client import REGISTRY


class EnginesConfig(AppConfig):
    name = "engines"

    def ready(self) -> None:
        from engines.metrics import Fleet

        REGISTRY.register(Fleet())
