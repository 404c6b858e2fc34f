"""The apps an engine can run. Each is a module with `run(given, report) -> output`.

An app runs in a process of its own (`python -m engines.agent.apps NAME PARENT`), gets its input as JSON on
stdin and speaks in JSON lines on stdout: `{"progress": 0.5, "message": …}`, `{"log": …}`, and last
`{"result": …}` or `{"error": …}`. What it writes to stderr is kept as its log.
"""

NAMES = ("checksum", "render", "sleep")
