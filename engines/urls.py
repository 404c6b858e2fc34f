"""The fleet's addresses. One path per verb: an action that does not exist has no address."""

from django.urls import path

from engines.enums import Verb
from engines.views import bulk, engine, fleet, keys, operate, operations

urlpatterns = [
    path("engines/", fleet.fleet, name="engines"),
    path("engines/many/drain/", bulk.confirm, {"verb": Verb.DRAIN}, name="bulk-drain"),
    path("engines/<str:uid>/", engine.engine, name="engine"),
    *(path(f"engines/<str:uid>/{verb}/", operate.operate, {"verb": verb}, name=f"engine-{verb}") for verb in Verb),
    path("batches/<uuid:pk>/", bulk.batch, name="batch"),
    path("batches/<uuid:pk>/stop/", bulk.stop, name="batch-stop"),
    path("operations/", operations.operations, name="operations"),
    path("operations/<uuid:pk>/", operations.operation, name="operation"),
    *(
        path(f"operations/<uuid:pk>/{step}/", operations.decide, {"step": step}, name=f"operation-{step}")
        for step in operations.STEPS
    ),
    path("keys/", keys.keys, name="keys"),
]
