"""ASVS 1.2.1, 1.2.2, 1.3.2: whatever an API says of an engine is text, wherever it is shown."""

import re

import pytest

from engines.models import Engine
from tests.engines.conftest import dto, read

MARK = "M4RK"
NASTY = [
    f"<img src=x onerror=alert('{MARK}')>",
    f"</script><script>alert('{MARK}')</script>",
    f'"><svg onload=alert("{MARK}")>',
    f"{{{{7*7}}}}{{% now %}}{MARK}",
    f"'; DROP TABLE engines_engine; -- {MARK}",
    f"javascript:alert('{MARK}')",
    f"=HYPERLINK('http://evil','{MARK}')",
    f"\u202e{MARK}\u0001\u0007",
]
LIVE = re.compile(r"<(img|svg|script)[^>]*(onerror|onload|alert)|href=[\"']?\s*javascript:", re.IGNORECASE)


@pytest.fixture(params=NASTY, ids=range(len(NASTY)))
def said(request, acme_connection):
    """An engine that carries the text in every field that can hold one."""
    text = request.param
    gpu = {"gpu_id": text, "name": text, "type": text, "vram": 1}
    worker = {
        "id": text,
        "index": 0,
        "status": text,
        "task_id": text,
        "app_id": text,
        "gpus": [gpu],
        "warm_apps": [text],
    }
    machine = dict.fromkeys(("cloud", "name", "region", "shade_instance_type", "status", "ip", "error"), text)
    machine |= {"auto_delete": {"date_threshold": text, "spend_threshold": text}, "hourly_price": text}
    host = {"hostname": text, "os": text, "cpus": [{"name": text}], "gpus": [{"name": text}]}
    more = {"engine_version": text, "system_info": host, "instance": machine, "api_url": text}
    update = {"asked": text, "phase": text, "version": text, "error": text}
    known = dto(uid="eng_x", name=text, status=text[:40], **more, update=update)
    read(acme_connection, known | {"workers": [worker]})
    return Engine.objects.get(uid="eng_x")


@pytest.mark.parametrize("path", ["/engines/", "/engines/eng_x/", "/engines/eng_x/drain/", "/operations/", "/team/"])
def test_what_an_engine_says_is_shown_as_text(said, client_of, ada, path):
    page = client_of(ada).get(path).content.decode()
    assert LIVE.findall(page) == []


def test_it_is_shown_at_all(said, client_of, ada):
    assert MARK in client_of(ada).get("/engines/").content.decode()


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
@pytest.mark.parametrize("path", ["/engines/?q={}", "/engines/?status={}", "/operations/?state={}", "/audit/?q={}"])
def test_what_an_address_says_is_shown_as_text(client_of, ada, path, text):
    from urllib.parse import quote

    answer = client_of(ada).get(path.format(quote(text)))
    assert answer.status_code in (200, 400)
    assert LIVE.findall(answer.content.decode()) == []
