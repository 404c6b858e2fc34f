"""A cloud in memory that keeps its own truth and does what a test tells it: the provider's side of the interface."""

from engines.controlplane.providers.base import Machine, NotNow, Refused, Unclear

TYPES = [
    {
        "id": "local.cpu-2",
        "cloud": "local",
        "region": "here",
        "shade_instance_type": "cpu-2",
        "cloud_instance_type": "cpu-2",
        "deployment_type": "vm",
        "hourly_price": 120,
        "configuration": {"vcpus": 2, "gpu_type": "", "num_gpus": 0},
        "availability": [{"available": True, "region": "here"}, {"available": False, "region": "there"}],
    }
]


class Cloud:
    """`fail` names what goes wrong next: call → "refuse", "busy", "lose" (not done, no answer) or "lose_answer"."""

    name = "memory"

    def __init__(self):
        self.machines = {}
        self.ends = {}
        self.calls = []
        self.fail = {}

    def _act(self, call, effect=lambda: None):
        self.calls.append(call)
        how = self.fail.get(call)
        if how == "refuse":
            raise Refused("no machines today.")
        if how == "busy":
            raise NotNow("too many calls.")
        if how == "lose":
            raise Unclear("no answer")
        result = effect()
        if how == "lose_answer":
            raise Unclear("no answer")
        return result

    def count(self, call):
        return self.calls.count(call)

    def types(self, cloud=""):
        return TYPES

    def create(self, order):
        return self._act("create", lambda: self._create(order))

    def _create(self, order):
        machine_id = f"m-{len(self.machines) + 1}"
        self.machines[machine_id] = {"name": order.name, "status": "active", "order": order}
        self.ends[machine_id] = order.delete_at
        return machine_id

    def find(self, name):
        self.calls.append("find")
        return next((self._machine(each) for each in self.machines if self.machines[each]["name"] == name), None)

    def info(self, machine_id):
        return self._act("info", lambda: self._machine(machine_id) if machine_id in self.machines else None)

    def _machine(self, machine_id):
        known = self.machines[machine_id]
        return Machine(
            id=machine_id, name=known["name"], status=known["status"], ip="127.0.0.1", facts=known.get("facts", {})
        )

    def set_auto_delete(self, machine_id, delete_at, spend_limit):
        self._act("set_auto_delete", lambda: self.ends.update({machine_id: delete_at}))

    def delete(self, machine_id):
        self._act("delete", lambda: self.machines.get(machine_id, {}).update(status="deleting"))

    def restart(self, machine_id):
        self._act("restart")
