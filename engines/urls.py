"""The fleet's addresses. One path per verb: an action that does not exist has no address."""

from django.urls import path

from engines.enums import MONEY, Verb
from engines.views import (
    brakes,
    bulk,
    cloud_time,
    connections,
    create,
    engine,
    extend,
    fleet,
    keys,
    operate,
    operations,
    rent,
    selection,
)

urlpatterns = [
    path("engines/", fleet.fleet, name="engines"),
    path("engines/new/", create.new, name="engine-new"),
    path("engines/new/waiting/", create.waiting, name="engine-new-waiting"),
    *(path(f"engines/many/{verb}/", bulk.confirm, {"verb": verb}, name=f"bulk-{verb}") for verb in selection.VERBS),
    path("engines/new/cloud/", rent.types, name="engine-types"),
    path("engines/new/cloud/order/", rent.order, name="engine-create"),
    path("engines/<str:uid>/", engine.engine, name="engine"),
    path("batches/<uuid:pk>/", bulk.batch, name="batch"),
    path("batches/<uuid:pk>/stop/", bulk.stop, name="batch-stop"),
    path("batches/<uuid:pk>/approve/", bulk.approve, name="batch-approve"),
    path("engines/<str:uid>/extend/", extend.extend, name="engine-extend"),
    *(
        path(f"engines/<str:uid>/{verb}/", operate.operate, {"verb": verb}, name=f"engine-{verb}")
        for verb in Verb
        if verb not in MONEY
    ),
    path("cloud-time/", cloud_time.cloud_time, name="cloud-time"),
    path("cloud-time/ledger.csv", cloud_time.sheet_of, name="cloud-time-csv"),
    path("cloud-time/freeze/", brakes.freeze, name="cloud-time-freeze"),
    path("cloud-time/limits/", brakes.set_limits, name="cloud-time-limits"),
    path("cloud-time/ceiling/", brakes.set_ceiling, name="cloud-time-ceiling"),
    path("cloud-time/<uuid:pk>/approve/", cloud_time.decide, {"step": "approve"}, name="cloud-time-approve"),
    path("cloud-time/<uuid:pk>/reject/", cloud_time.decide, {"step": "reject"}, name="cloud-time-reject"),
    path("cloud-time/<uuid:pk>/cancel/", cloud_time.cancel, name="cloud-time-cancel"),
    path("cloud-time/<uuid:pk>/resolve/", cloud_time.settle, name="cloud-time-resolve"),
    path("operations/", operations.operations, name="operations"),
    path("operations/<uuid:pk>/", operations.operation, name="operation"),
    *(
        path(f"operations/<uuid:pk>/{step}/", operations.decide, {"step": step}, name=f"operation-{step}")
        for step in operations.STEPS
    ),
    path("connections/", connections.connections, name="connections"),
    path("connections/new/", connections.add, name="connection-new"),
    path("connections/<int:connection>/", connections.change, name="connection"),
    path("connections/<int:connection>/remove/", connections.remove, name="connection-remove"),
    path("keys/", keys.keys, name="keys"),
    path("keys/<uuid:key>/test/", keys.test, name="key-test"),
    path("keys/<uuid:key>/revoke/", keys.revoke, name="key-revoke"),
]
