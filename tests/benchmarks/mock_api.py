"""An Engines API in a process of its own that costs next to nothing: `python -m tests.benchmarks.mock_api`.

The first segment of a path names one of its fleets, made by `PUT /NAME {"engines": N}`. It prints its port. `GET /NAME`
says how often it was asked: {"lists", "passes", "gets", "drains"}.
"""

import asyncio
import json

PAGE = 100
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def dto(uid, name):
    idle = {"status": "idle", "task_id": None, "status_updated_at": "2026-11-23T11:58:20Z"}
    workers = [{"id": f"w{index}", "index": index, **idle} for index in range(2)]
    more = {"engine_version": "v1.0.0", "system_info": {"hostname": "rack-1"}, "created_at": "2026-11-01T00:00:00Z"}
    return {"id": uid, "name": name, "status": "running", "workers": workers, **more}


class Fleet:
    def __init__(self, engines):
        self.items = {f"eng_{n}": dto(uid=f"eng_{n}", name=f"engine-{n:05}") for n in range(engines)}
        self.order = list(self.items)
        self.text = {uid: json.dumps(item) for uid, item in self.items.items()}
        self.asked = {"lists": 0, "passes": 0, "gets": 0, "drains": 0}

    def answer(self, method, path, body):
        match method, path:
            case "GET", []:
                return json.dumps(self.asked)
            case "POST", ["engines", "list"]:
                start = int(body.get("cursor") or 0)
                self.asked["lists"] += 1
                self.asked["passes"] += start == 0
                more = start + PAGE < len(self.order)
                items = ",".join(self.text[uid] for uid in self.order[start : start + PAGE])
                cursor = json.dumps(str(start + PAGE) if more else None)
                return f'{{"items":[{items}],"next_cursor":{cursor},"has_next":{json.dumps(more)}}}'
            case "GET", ["engines", uid]:
                self.asked["gets"] += 1
                return self.text[uid]
            case "POST", ["engines", uid, "drain"]:
                self.asked["drains"] += 1
                self.items[uid]["status"] = "draining"
                self.text[uid] = json.dumps(self.items[uid])
                return self.text[uid]
        raise KeyError(path)


fleets = {}


async def serve(reader, writer):
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split()
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            length = int(fields.get("content-length") or 0)
            body = json.loads(await reader.readexactly(length)) if length else {}
            name, *path = target.split("?")[0].strip("/").split("/")
            if method == "PUT":
                fleets[name] = Fleet(body["engines"])
                text = "{}"
            else:
                text = fleets[name].answer(method, path, body)
            payload = text.encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(payload)
            )
            writer.write(payload)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
