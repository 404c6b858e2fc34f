"""The life of a person's key: tested, rotated while operations finish, refused, revoked; and whose business it is."""

from datetime import timedelta

import pytest
from django.core import mail

from engines import keys as use
from engines.enums import State
from engines.models import Operation
from engines.operations.send import send
from engines.operations.sweep import due
from engines.snapshots import refresh
from portal.accounts.models import Membership
from portal.audit.models import Entry
from portal.vault.keys import Secret, flag, store, unseal
from portal.vault.models import Connection, StoredKey
from portal.vault.tell import owners_to_tell
from tests.engines.conftest import NOW, put

pytestmark = pytest.mark.django_db


def form(connection, how, secret="inf_second_key"):
    prefix = f"c{connection.pk}"
    return {"connection": connection.pk, "how": how, f"{prefix}-label": "second", f"{prefix}-secret": secret}


def rotate(client, connection, **more):
    return client.post("/keys/", form(connection, "rotate", **more), follow=True).content.decode()


def sweep(at):
    for job in list(use.due_for_removal(at)):
        job()


def labels():
    return sorted(StoredKey.objects.values_list("label", flat=True))


def test_a_rotated_key_is_kept_for_what_was_asked_with_it(api, operation, olgas_key, olga, client_of):
    page = rotate(client_of(olga), operation.engine.connection)
    assert "stays until what was asked with it is finished" in page
    assert labels() == ["Olga's", "second"]
    operation.refresh_from_db()
    assert unseal(operation.key).reveal() == "inf_olga_key"


def test_what_is_asked_after_a_rotation_is_asked_with_the_new_key(api, olgas_key, olga, client_of, acme_connection):
    browser = client_of(olga)
    rotate(browser, acme_connection)
    entry = browser.get("/keys/").context["forms"][0]
    assert entry["key"].label == "second"
    assert [key.label for key in use.reading_keys(acme_connection)] == ["second"]


def test_what_was_asked_before_a_rotation_is_sent_with_the_old_key(api, operation, olga, client_of):
    rotate(client_of(olga), operation.engine.connection)
    api.refused.add("inf_second_key")
    send(str(operation.pk), NOW)
    operation.refresh_from_db()
    assert operation.state == State.ACCEPTED
    assert operation.key_label == "Olga's (…_key)"


def test_a_rotated_key_goes_when_its_operations_are_finished(api, operation, olga, client_of):
    rotate(client_of(olga), operation.engine.connection)
    later = StoredKey.objects.get(label="Olga's").retired_at + timedelta(minutes=2)
    sweep(later)
    assert labels() == ["Olga's", "second"]
    put(operation, "succeeded", finished_at=NOW)
    sweep(later)
    assert labels() == ["second"]
    assert Entry.objects.get(action="key.removed").actor_name == "system"
    operation.refresh_from_db()
    assert operation.key_label == "Olga's (…_key)"


def test_a_key_that_was_just_rotated_out_is_not_taken_from_under_a_request(api, olgas_key, olga, client_of):
    rotate(client_of(olga), olgas_key.connection)
    sweep(StoredKey.objects.get(label="Olga's").retired_at + timedelta(seconds=30))
    assert labels() == ["Olga's", "second"]


def test_the_sweep_removes_keys_that_were_rotated_out(api, olgas_key, olga, client_of):
    rotate(client_of(olga), olgas_key.connection)
    StoredKey.objects.filter(label="Olga's").update(retired_at=NOW - timedelta(hours=1))
    Connection.objects.update(refresh_due_at=NOW + timedelta(hours=1))
    for job in due(NOW):
        job()
    assert labels() == ["second"]


def test_a_key_that_the_api_refuses_rotates_nothing(api, olgas_key, olga, client_of):
    api.refused.add("inf_wrong")
    page = rotate(client_of(olga), olgas_key.connection, secret="inf_wrong")
    assert "stays" in page
    assert labels() == ["Olga's"]
    entry = Entry.objects.get(action="key.not_stored")
    assert (entry.actor, entry.outcome) == (olga, "refused")


def test_a_key_can_be_rotated_again_while_the_first_is_still_in_use(api, operation, olga, client_of):
    browser = client_of(olga)
    rotate(browser, operation.engine.connection)
    rotate(browser, operation.engine.connection, secret="inf_third_key")
    assert labels() == ["Olga's", "second", "second"]
    assert StoredKey.objects.filter(retired_at=None).count() == 1


def test_replaced_at_once_the_old_key_is_gone(api, operation, olga, client_of):
    client_of(olga).post("/keys/", form(operation.engine.connection, "replace"))
    assert labels() == ["second"]


def test_testing_says_what_the_key_can_do_now(api, olgas_key, olga, client_of):
    api.scopes = ["engines:read"]
    client_of(olga).post(f"/keys/{olgas_key.pk}/test/")
    olgas_key.refresh_from_db()
    assert olgas_key.scopes == ["engines:read"]
    entry = Entry.objects.get(action="key.tested")
    assert (entry.before["scopes"], entry.after["scopes"]) == (["engines:write"], ["engines:read"])


def test_what_a_key_without_scopes_may_not_read_is_found_by_trying(api, olgas_key, olga, client_of):
    api.scopes = []
    api.trouble["GET /billing/balance"] = (403, "insufficient_scope")
    browser = client_of(olga)
    browser.post(f"/keys/{olgas_key.pk}/test/")
    shown = {one["label"]: one["why_not"] for one in browser.get("/keys/").context["keys"][0]["abilities"]}
    assert shown["See the balance before buying cloud time"] == "the API refused it when it was tried"
    assert shown["See engines"] == ""


def test_a_key_that_fails_its_test_is_marked(api, olgas_key, olga, client_of):
    api.refused.add("inf_olga_key")
    page = client_of(olga).post(f"/keys/{olgas_key.pk}/test/", follow=True).content.decode()
    assert "Not working" in page
    olgas_key.refresh_from_db()
    assert olgas_key.failing_since is not None


def test_a_key_that_is_refused_while_a_dialog_opens_is_marked(api, engine, olgas_key, olga, client_of):
    api.refused.add("inf_olga_key")
    client_of(olga).get("/engines/eng_1/update/")
    olgas_key.refresh_from_db()
    assert "refused this key" in olgas_key.last_error


def test_a_test_that_the_api_does_not_answer_proves_nothing(api, olgas_key, olga, client_of):
    api.close()
    page = client_of(olga).post(f"/keys/{olgas_key.pk}/test/", follow=True).content.decode()
    olgas_key.refresh_from_db()
    assert olgas_key.last_error == ""
    assert "Nothing is known about the key that was not known before" in page


def test_testing_changes_nothing_at_the_api(api, olgas_key, olga, client_of):
    client_of(olga).post(f"/keys/{olgas_key.pk}/test/")
    assert {request.split(" ", 1)[1] for request in api.requests} == {"/me", "/engines/list", "/billing/balance"}


def test_a_key_that_begins_to_be_refused_tells_its_owner_on_every_page(api, engine, olgas_key, olga, client_of):
    browser = client_of(olga)
    assert "refuses your key" not in browser.get("/engines/").content.decode()
    api.refused.add("inf_olga_key")
    Connection.objects.update(refresh_due_at=None)
    refresh(olgas_key.connection_id, NOW)
    assert "refuses your key Olga&#x27;s" in browser.get("/engines/").content.decode()
    assert Entry.objects.get(action="key.refused").detail["owner"] == "Olga"


def test_another_person_is_not_told_of_it(engine, olgas_key, victor, client_of):
    flag(olgas_key, "401")
    assert "refuses your key" not in client_of(victor).get("/engines/").content.decode()


def test_a_refusal_is_audited_once(olgas_key):
    for _ in range(3):
        flag(StoredKey.objects.get(pk=olgas_key.pk), "401")
    assert Entry.objects.filter(action="key.refused").count() == 1


def test_a_key_that_works_again_is_not_marked_any_more(olgas_key):
    flag(olgas_key, "401")
    flag(StoredKey.objects.get(pk=olgas_key.pk), "")
    olgas_key.refresh_from_db()
    assert (olgas_key.last_error, olgas_key.failing_since) == ("", None)


def written(settings, key, at):
    """The mails that a sweep at that moment sends."""
    settings.EMAIL_HOST, settings.PORTAL_URL = "mail.example", "https://portal.acme.example"
    mail.outbox.clear()
    for _ in range(2):
        for job in owners_to_tell(at):
            job()
    return [(sent.to, sent.body) for sent in mail.outbox]


def test_the_owner_of_a_refused_key_is_written_to_once(olgas_key, settings):
    flag(olgas_key, "401: no such key")
    began = StoredKey.objects.get().failing_since
    ((to, body),) = written(settings, olgas_key, began)
    assert to == ["olga@acme.example"]
    assert "401: no such key" in body
    assert "https://portal.acme.example/keys/" in body
    assert "inf_olga_key" not in body
    assert written(settings, olgas_key, began + timedelta(days=3)) == []


def test_a_key_that_comes_and_goes_is_written_of_once_an_hour(olgas_key, settings):
    flag(olgas_key, "401")
    began = StoredKey.objects.get().failing_since
    assert len(written(settings, olgas_key, began)) == 1
    for minutes, mails in ((30, 0), (61, 1)):
        at = began + timedelta(minutes=minutes)
        StoredKey.objects.update(failing_since=at)
        assert len(written(settings, olgas_key, at)) == mails


def test_where_no_mail_is_configured_none_is_due(olgas_key, settings):
    flag(olgas_key, "401")
    assert list(owners_to_tell(NOW)) == []


def test_a_card_says_what_its_key_was_last_used_for(operation, olga, client_of):
    put(operation, "accepted")
    page = client_of(olga).get("/keys/").content.decode()
    assert f'<a href="/operations/{operation.pk}/">Drain of gpu-1</a>' in page


def test_an_earlier_key_s_use_is_not_the_new_one_s(api, operation, olga, client_of):
    put(operation, "succeeded", finished_at=NOW)
    browser = client_of(olga)
    browser.post("/keys/", form(operation.engine.connection, "replace"))
    assert "Drain of gpu-1" not in browser.get("/keys/").content.decode()


def test_the_operation_names_the_key_that_it_used(operation, olga, client_of):
    assert "Olga&#x27;s (…_key)" in client_of(olga).get(f"/operations/{operation.pk}/").content.decode()


def test_revoking_at_the_api_and_here(api, olgas_key, olga, confirmed):
    api.scopes = ["*"]
    StoredKey.objects.update(scopes=["*"])
    api.key_id = "key_1"
    browser = confirmed(olga)
    assert "Revoke at the API and here" in browser.get(f"/keys/{olgas_key.pk}/revoke/").content.decode()
    browser.post(f"/keys/{olgas_key.pk}/revoke/", {"where": "api"})
    assert api.sent("DELETE", "/apikeys/key_1") == ["DELETE /apikeys/key_1"]
    assert StoredKey.objects.count() == 0
    actions = Entry.objects.filter(action__startswith="key.re").order_by("number").values_list("action", flat=True)
    assert list(actions) == ["key.revoked", "key.removed"]


def test_a_key_that_the_api_did_not_surely_revoke_is_kept(api, olgas_key, olga, confirmed):
    api.key_id = "key_1"
    api.trouble["DELETE /apikeys/key_1"] = "reset"
    page = confirmed(olga).post(f"/keys/{olgas_key.pk}/revoke/", {"where": "api"}).content.decode()
    assert "It is not certain" in page
    assert StoredKey.objects.count() == 1
    assert Entry.objects.get(action="key.revoked").outcome == "unknown"


def test_an_api_that_does_not_say_which_key_it_is_revokes_nothing(api, olgas_key, olga, confirmed):
    page = confirmed(olga).post(f"/keys/{olgas_key.pk}/revoke/", {"where": "api"}).content.decode()
    assert "does not say which key this is" in page
    assert StoredKey.objects.count() == 1


def test_a_key_that_the_api_refuses_already_is_as_good_as_revoked(api, olgas_key, olga, confirmed):
    api.refused.add("inf_olga_key")
    confirmed(olga).post(f"/keys/{olgas_key.pk}/revoke/", {"where": "api"})
    assert StoredKey.objects.count() == 0


def test_removing_it_here_alone_asks_the_api_nothing(api, olgas_key, olga, confirmed):
    page = confirmed(olga).post(f"/keys/{olgas_key.pk}/revoke/", {"where": "here"}, follow=True).content.decode()
    assert (api.requests, StoredKey.objects.count()) == ([], 0)
    assert "still takes it" in page


def test_what_waits_with_a_revoked_key_is_cancelled(api, operation, olga, confirmed):
    confirmed(olga).post(f"/keys/{operation.key_id}/revoke/", {"where": "here"})
    send(str(operation.pk), NOW)
    operation.refresh_from_db()
    assert operation.state == State.CANCELLED
    assert api.sent("POST", "/engines/eng_1/drain") == []


def test_revoking_asks_who_signed_in_long_ago_to_confirm(olgas_key, olga, confirmed):
    answer = confirmed(olga, ago=601).post(f"/keys/{olgas_key.pk}/revoke/", {"where": "here"})
    assert answer["Location"].startswith("/accounts/confirm/")
    assert StoredKey.objects.count() == 1


def test_an_admin_removes_a_member_s_key_and_never_uses_it(api, olgas_key, ada, confirmed):
    api.key_id = "key_1"
    browser = confirmed(ada)
    assert browser.post(f"/keys/{olgas_key.pk}/test/").status_code == 404
    browser.post(f"/keys/{olgas_key.pk}/revoke/", {"where": "api"})
    assert (api.requests, StoredKey.objects.count()) == ([], 0)
    assert Entry.objects.get(action="key.removed").actor_name == "Ada"


@pytest.mark.parametrize("step", ["test", "revoke"])
def test_another_member_s_key_is_not_there_for_those_who_are_no_admins(olgas_key, bill, confirmed, step):
    assert confirmed(bill).post(f"/keys/{olgas_key.pk}/{step}/", {"where": "here"}).status_code == 404
    assert StoredKey.objects.count() == 1


def test_who_leaves_the_team_leaves_no_key(olgas_key, olga, ada, confirmed):
    member = Membership.objects.get(user=olga)
    confirmed(ada).post(f"/team/members/{member.pk}/remove/")
    assert StoredKey.objects.count() == 0
    assert Entry.objects.get(action="key.removed").reason == "Its owner was removed from the team."


def test_their_keys_to_other_teams_stay(olgas_key, olga, ada, other_team, confirmed):
    elsewhere = Connection.objects.create(team=other_team, name="x", base_url="http://127.0.0.1:2")
    store(user=olga, connection=elsewhere, secret=Secret("inf_elsewhere"), label="there", scopes=[])
    confirmed(ada).post(f"/team/members/{Membership.objects.get(user=olga).pk}/remove/")
    assert labels() == ["there"]


def test_no_page_shows_a_key_after_it_was_rotated_or_refused(api, operation, olga, ada, client_of, confirmed):
    browser = confirmed(olga)
    rotate(browser, operation.engine.connection)
    pages = ["/keys/", f"/keys/{operation.key_id}/revoke/", f"/operations/{operation.pk}/"]
    shown = "".join(browser.get(page).content.decode() for page in pages)
    shown += confirmed(ada).get("/keys/").content.decode() + str(list(Entry.objects.values()))
    assert "inf_olga_key" not in shown
    assert "inf_second_key" not in shown
    assert Operation.objects.count() == 1
