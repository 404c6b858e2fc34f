"""The apps an engine can run. Each is a module with `run(given, report) -> output`.

An app runs in a process of its own (`python -m engines.agent.apps NAME PARENT [wait]`), gets its input as JSON on
stdin and speaks in JSON lines on stdout: `{"progress": 0.5, "message": …}`, `{"log": …}`, and last
`{"result": …}` or `{"error": …}`. What it writes to stderr is kept as its log. With `wait` it first says
`{"ready": true}` once it is loaded: its input may take hours to come.
"""

NAMES = ("checksum", "render", "sleep")
WAIT = "wait"
READY = b'{"ready": true}'
