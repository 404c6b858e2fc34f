"""The control plane with less patience: seconds that the product counts in tens come from the environment."""

import os

import engines.controlplane.asgi as product  # first: it loads the apps that the rest needs
from engines import wire
from engines.controlplane import connection

application = product.application
wire.DEAD_AFTER_SECONDS = float(os.environ.get("DEAD_AFTER", wire.DEAD_AFTER_SECONDS))
connection.SEND_SECONDS = float(os.environ.get("SEND_SECONDS", connection.SEND_SECONDS))
