"""The cloud time page: what ends first, what it costs, who may do what, and the ledger as a sheet."""

import csv
import io
import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command

from engines import tasks
from engines.models import DayCheck, Engine, LedgerEntry, Operation
from engines.money import checks, sheet
from engines.money.limits import Frozen
from engines.money.models import Freeze, Limits
from engines.money.reconcile import resolve
from engines.operations.moves import Decider, Moved
from engines.views import cloud_time
from portal.audit.models import Entry
from tests.money.conftest import NOON, ORIGIN, ask, fresh, seen, settle, sweep
from tests.money.test_dialog import words

pytestmark = pytest.mark.django_db
URL = "/cloud-time/"


@pytest.fixture
def fleet(api, acme_connection, engine, clock):
    api.add("eng_2", NOON + timedelta(minutes=30))
    api.add("eng_3", NOON + timedelta(hours=20))
    api.add("eng_4", NOON + timedelta(days=9))
    for uid in ("eng_2", "eng_3", "eng_4"):
        seen(acme_connection, api, uid)


def test_what_ends_first_is_on_top(client_of, bill, fleet):
    rows = client_of(bill).get(URL).context["rows"]
    assert [row.engine.uid for row in rows] == ["eng_2", "eng_1", "eng_3", "eng_4"]


def test_what_ends_later_than_the_first_fifty_is_counted_and_shown_on_demand(client_of, bill, fleet, monkeypatch):
    monkeypatch.setattr(cloud_time, "ENGINES", 3)
    page = client_of(bill).get(URL)
    assert [row.engine.uid for row in page.context["rows"]] == ["eng_2", "eng_1", "eng_3"]
    assert "and 1 more that ends later, or of which no end is reported. Show all" in words(page)
    every = client_of(bill).get(URL, {"all": "1"})
    assert len(every.context["rows"]) == 4
    assert "Show all" not in words(every)


def test_who_is_not_shown_is_warned_of_all_the_same(client_of, bill, fleet, monkeypatch):
    monkeypatch.setattr(cloud_time, "ENGINES", 1)
    assert "Ends within 24 hours: eng_3" in words(client_of(bill).get(URL))


def test_the_new_end_is_on_the_page_as_soon_as_it_is_paid(client_of, bill, bills_key, engine, api, clock):
    sweep()  # a whole pass; the next is 15 seconds away
    clock.advance(seconds=2)
    ask(Engine.objects.get(pk=engine.pk), bill, bills_key)
    sweep()
    clock.advance(seconds=2)
    sweep()
    [row] = client_of(bill).get(URL).context["rows"]
    assert row.ends == api.ends("eng_1") == NOON + timedelta(hours=8)


def test_it_warns_an_hour_six_hours_and_a_day_before(client_of, bill, fleet):
    warnings = client_of(bill).get(URL).context["warnings"]
    named = [(each["words"], [engine.uid for engine in each["engines"]]) for each in warnings]
    assert named == [
        ("Ends within 1 hour", ["eng_2"]),
        ("Ends within 6 hours", ["eng_1"]),
        ("Ends within 24 hours", ["eng_3"]),
    ]


def test_a_purchase_says_until_when_it_is_sent_and_nothing_of_a_deadline_once_it_was(client_of, victor, asked, api):
    page = f"/operations/{asked.pk}/"
    assert re.search("Sent within .* or nothing is bought", words(client_of(victor).get(page)))
    sweep()
    shown = words(client_of(victor).get(page))
    assert "Deadline" not in shown
    assert "or nothing is bought" not in shown


def test_what_is_past_its_end_is_not_said_to_end_soon(client_of, bill, fleet, clock):
    clock.advance(hours=1)
    shown = words(client_of(bill).get(URL))
    assert "Paid time is over: eng_2" in shown
    assert "Ends within 1 hour" not in shown


def test_each_engine_says_what_more_would_cost(client_of, bill, bills_key, fleet):
    shown = words(client_of(bill).get(URL))
    assert "Tonight · $17.50" in shown
    assert "+24 h · $60.00" in shown


def offers_of(page, uid):
    row = page.content.decode().split(f'id="paid-{uid}"')[1].split("</tr>")[0]
    return re.findall(r"(Tonight|Friday[^·]*|\+24 h) · (\$[\d.,]+)", row)


def test_to_midnight_to_friday_and_a_day_more_have_a_price_on_the_viewers_clock(client_of, bill, bills_key, fleet):
    browser = client_of(bill)  # it is Monday noon, and eng_1 is paid until 17:00, in UTC
    friday = "Friday 18:00"
    assert offers_of(browser.get(URL), "eng_1") == [("Tonight", "$17.50"), (friday, "$242.50"), ("+24 h", "$60.00")]
    browser.cookies["tz"] = "Europe/Berlin"
    assert offers_of(browser.get(URL), "eng_1") == [("Tonight", "$15.00"), (friday, "$240.00"), ("+24 h", "$60.00")]
    assert [label for label, _ in offers_of(browser.get(URL), "eng_4")] == ["+24 h"]  # it runs longer than Friday


def test_what_a_machine_cost_so_far_is_said_with_what_was_bought_of_it_here(client_of, bill, bills_key, engine, api):
    browser = client_of(bill)
    assert "≈ $1,350.00 no time bought here" in words(browser.get(URL))  # 540 hours at $2.50
    ask(engine, bill, bills_key)
    sweep()
    assert "≈ $1,350.00 $7.50 paid here, time to come included" in words(browser.get(URL))


def test_what_was_bought_here_for_later_is_no_part_of_what_it_cost_so_far(
    client_of, bill, bills_key, engine, api, clock
):
    ask(engine, bill, bills_key)
    sweep()
    Engine.objects.filter(pk=engine.pk).update(created_at=clock.at - timedelta(hours=1))
    assert "≈ $2.50 $7.50 paid here, time to come included" in words(client_of(bill).get(URL))


def row_of(browser, uid="eng_1"):
    row = browser.get(URL).content.decode().split(f'id="paid-{uid}"')[1].split("</tr>")[0]
    return " ".join(re.sub("<[^>]+>", " ", row).split())


def test_what_a_machine_cost_so_far_ends_with_its_paid_time(client_of, bill, engine, clock):
    clock.advance(hours=9)  # it was paid for five of them
    assert "≈ $1,362.50 no time bought here" in row_of(client_of(bill))


def test_what_a_machine_cost_so_far_ends_when_it_stops(client_of, bill, engine, api, acme_connection, clock):
    clock.advance(hours=1)
    api.engines["eng_1"]["status"] = "stopped"
    seen(acme_connection, api, "eng_1")
    clock.advance(hours=3)
    shown = row_of(client_of(bill))
    assert "≈ $1,352.50 no time bought here" in shown
    assert "The engine is stopped: its paid time cannot be extended." in shown


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("auto_delete", "no paid end reported $2.50 an hour ≈ $1,350.00 no time bought here The API reports no end"),
        (
            "hourly_price",
            "Mon 23 Nov 17:00 UTC no price reported not known no time bought here The API reports no price",
        ),
    ],
)
def test_a_machine_without_an_end_or_a_price_is_at_the_end_and_says_so(
    client_of, bill, bills_key, fleet, api, acme_connection, clock, missing, said
):
    del api.engines["eng_1"]["instance"][missing]
    clock.advance(seconds=1)
    seen(acme_connection, api, "eng_1")
    browser = client_of(bill)
    assert [row.engine.uid for row in browser.get(URL).context["rows"]] == ["eng_2", "eng_3", "eng_4", "eng_1"]
    assert said in row_of(browser)
    assert "/engines/eng_1/extend/" not in browser.get(URL).content.decode()


def test_a_self_hosted_engine_is_not_on_it(client_of, bill, api, engine, acme_connection, clock):
    api.engines["eng_1"]["instance"] = None
    clock.advance(seconds=1)
    seen(acme_connection, api, "eng_1")
    assert client_of(bill).get(URL).context["rows"] == []


@pytest.mark.parametrize("person", ["victor", "audra", "olga"])
def test_who_may_not_buy_sees_prices_and_no_buttons(client_of, request, fleet, person):
    page = client_of(request.getfixturevalue(person)).get(URL)
    assert "$60.00" in words(page)
    assert b"/extend/" not in page.content
    assert b"<form method" not in page.content.split(b'id="cloud-time"')[1]


def test_the_ledger_says_who_why_and_on_what_evidence(client_of, victor, asked, api):
    sweep()
    shown = words(client_of(victor).get(URL))
    for part in ("$7.50", "Bill", "finish the render", "The API’s answer"):
        assert part in shown


def test_an_unclear_purchase_is_said_aloud_and_settled_with_a_reason(client_of, bill, asked, api, clock):
    api.faults = [("silence",)]
    sweep()
    api.move_end("eng_1", timedelta(hours=7))
    settle(clock, asked, minutes=1)
    browser = client_of(bill)
    assert "that a person must settle" in words(browser.get(URL))
    browser.post(f"/cloud-time/{asked.pk}/resolve/", {"applied": "no"})
    assert fresh(asked).state == "needs_attention"
    browser.post(f"/cloud-time/{asked.pk}/resolve/", {"applied": "no", "reason": "not in their list"})
    assert fresh(asked).extension.outcome == "resolved_not_applied"


@pytest.fixture
def unclear(asked, api, clock):
    """Somebody moved its end meanwhile: readings show neither unchanged nor as asked."""
    api.faults = [("silence",)]
    sweep()
    api.move_end("eng_1", timedelta(hours=7))
    return settle(clock, asked, minutes=1)


def said_of(browser, operation, applied="no", reason="not in their list"):
    words = {"applied": applied, "reason": reason}
    return browser.post(f"/cloud-time/{operation.pk}/resolve/", words)


def test_who_signed_in_long_ago_settles_nothing(confirmed, bill, unclear):
    browser = confirmed(bill, ago=601)
    dialog = browser.get(f"/cloud-time/{unclear.pk}/resolve/?applied=no")
    assert "Confirm that it is you first." in dialog.content.decode()
    answer = said_of(browser, unclear)
    assert answer.status_code == 409
    assert "Nothing was done: confirm that it is you first." in answer.content.decode()
    assert "not in their list</textarea>" in answer.content.decode()  # nothing that was typed is lost
    assert fresh(unclear).state == "needs_attention"


def test_without_a_reason_the_question_is_asked_again_at_its_field(client_of, bill, unclear):
    browser = client_of(bill)
    answer = said_of(browser, unclear, reason="  ")
    assert answer.status_code == 422
    assert answer.context["form"].errors == {"reason": ["This field is required."]}
    assert '<input type="hidden" name="applied" value="no">' in answer.content.decode()
    assert fresh(unclear).state == "needs_attention"


@pytest.mark.parametrize(
    ("applied", "consequence"), [("yes", "booked in the ledger"), ("no", "it would be paid twice")]
)
def test_each_answer_has_a_dialog_that_says_what_comes_of_it(client_of, bill, unclear, applied, consequence):
    browser = client_of(bill)
    path = f"/cloud-time/{unclear.pk}/resolve/?applied={applied}"
    assert f'href="{path}"' in browser.get(f"/operations/{unclear.pk}/").content.decode()
    assert consequence in words(browser.get(path))


def test_an_answer_that_there_is_not_is_no_page(client_of, bill, unclear):
    browser = client_of(bill)
    assert browser.get(f"/cloud-time/{unclear.pk}/resolve/").status_code == 404
    assert said_of(browser, unclear, "perhaps").status_code == 404
    assert fresh(unclear).state == "needs_attention"


def test_where_nothing_is_to_settle_the_dialog_says_so(client_of, bill, asked):
    page = client_of(bill).get(f"/cloud-time/{asked.pk}/resolve/?applied=yes")
    assert "where there is nothing to settle" in page.content.decode()
    assert b'type="submit"' not in page.content.split(b"dialog-foot")[1].split(b"</form>")[0]


def test_above_the_approval_limit_somebody_else_settles_it(client_of, bill, ada, unclear, acme):
    Limits.objects.create(team=acme, approval_cost=1)
    own = client_of(bill)
    assert "It was not charged" not in own.get(f"/operations/{unclear.pk}/").content.decode()
    said_of(own, unclear)
    assert fresh(unclear).state == "needs_attention"
    assert "It was not charged" in client_of(ada).get(f"/operations/{unclear.pk}/").content.decode()
    said_of(client_of(ada), unclear)
    assert fresh(unclear).extension.outcome == "resolved_not_applied"


@pytest.fixture
def other_end(asked, api):
    """Charged, and the API's answer names another end than was asked."""
    api.faults = [("wrong_end", timedelta(hours=-1))]
    sweep()
    return fresh(asked)


def test_a_difference_stands_with_the_open_questions_until_it_is_settled(client_of, bill, victor, other_end):
    question = "charged, with another new end than was asked"
    assert question in words(client_of(victor).get(URL))
    browser = client_of(bill)
    assert "It is settled" in browser.get(f"/operations/{other_end.pk}/").content.decode()
    said_of(browser, other_end, "yes", "they added the hour by hand")
    assert question not in words(client_of(victor).get(URL))
    page = browser.get(f"/operations/{other_end.pk}/").content.decode()
    assert "Bill settled the difference." in page
    assert "they added the hour by hand" in page
    assert "It is settled" not in page


def test_that_a_difference_is_settled_is_audited_and_changes_nothing_of_what_was_booked(client_of, bill, other_end):
    said_of(client_of(bill), other_end, "yes", "they added the hour by hand")
    entry = Entry.objects.get(action="cloudtime.resolved")
    assert (entry.actor, entry.reason, entry.detail["note"]) == (bill, "they added the hour by hand", "difference")
    assert fresh(other_end).extension.outcome == "discrepancy_settled"
    assert fresh(other_end).extension.is_charged
    assert LedgerEntry.objects.get().outcome == "discrepancy"


@pytest.mark.parametrize(("applied", "reason"), [("no", "not in their list"), ("yes", "")])
def test_a_difference_is_not_settled_without_a_reason_nor_as_not_charged(client_of, bill, other_end, applied, reason):
    said_of(client_of(bill), other_end, applied, reason)
    assert fresh(other_end).extension.outcome == "discrepancy"
    assert not Entry.objects.filter(action="cloudtime.resolved").exists()


def test_of_two_who_settle_a_difference_one_does(bill, ada, other_end):
    read_before = fresh(other_end)
    resolve(other_end, applied=True, by=Decider(bill, ORIGIN, "added"))
    with pytest.raises(Moved):
        resolve(read_before, applied=True, by=Decider(ada, ORIGIN, "added"))
    assert Entry.objects.filter(action="cloudtime.resolved").count() == 1


def test_who_asked_for_much_does_not_settle_its_difference(client_of, bill, ada, other_end, acme):
    Limits.objects.create(team=acme, approval_cost=1)
    said_of(client_of(bill), other_end, "yes")
    assert fresh(other_end).extension.outcome == "discrepancy"
    said_of(client_of(ada), other_end, "yes")
    assert fresh(other_end).extension.outcome == "discrepancy_settled"


def test_the_receipt_says_what_the_booking_rests_on(client_of, victor, asked, api, clock):
    receipt = f"/operations/{asked.pk}/"
    assert "Evidence" not in words(client_of(victor).get(receipt))
    api.faults = [("silence", True)]
    settle(clock, asked, minutes=1)
    assert "Evidence B: A reading of the engine" in words(client_of(victor).get(receipt))


def test_an_unknown_purchase_is_said_aloud_after_five_minutes(client_of, bill, asked, api, clock):
    api.faults = [("silence",)]
    settle(clock, asked, minutes=4)
    assert client_of(bill).get(URL).context["unclear"] == []
    settle(clock, asked, minutes=3)
    assert client_of(bill).get(URL).context["unclear"] == [asked]


def test_a_receipt_offers_another_try_only_when_nothing_was_charged(client_of, bill, asked, api, clock):
    api.faults = [("silence",)]
    browser = client_of(bill)
    for _ in range(3):
        settle(clock, asked, minutes=4)
        assert b"Look again and confirm" not in browser.get(f"/operations/{asked.pk}/").content
    settle(clock, asked, minutes=30)
    page = browser.get(f"/operations/{asked.pk}/").content.decode()
    assert f"retry_of={asked.pk}" in page


def test_a_freeze_is_audited_and_holds(client_of, bill, bills_key, engine, acme):
    browser = client_of(bill)
    browser.post("/cloud-time/freeze/", {"reason": "budget is gone"})
    assert Freeze.objects.of(acme).get().by == "Bill"
    assert Entry.objects.get(action="cloudtime.frozen").reason == "budget is gone"
    assert "Nothing can be bought." in words(browser.get(URL))
    lift(browser)
    assert Freeze.objects.count() == 0


def lift(browser):
    """What the dialog sends that lets spending go on."""
    page = browser.get("/cloud-time/freeze/").content.decode()
    form = {"reason": "new month", "lift": re.search(r'name="lift" value="([^"]+)"', page).group(1)}
    return form, browser.post("/cloud-time/freeze/", form)


def test_a_form_that_lifted_one_freeze_does_not_lift_the_next(client_of, ada, bill, acme):
    client_of(bill).post("/cloud-time/freeze/", {"reason": "budget is gone"})
    old, _ = lift(client_of(ada))
    client_of(ada).post("/cloud-time/freeze/", old)
    client_of(bill).post("/cloud-time/freeze/", {"reason": "a stolen key"})
    page = client_of(ada).post("/cloud-time/freeze/", old, follow=True)
    assert Freeze.objects.of(acme).get().reason == "a stolen key"
    assert "It stays frozen" in words(page)
    assert Entry.objects.filter(action="cloudtime.thawed").count() == 1


def test_why_spending_is_frozen_ends_as_a_sentence(acme, clock):
    frozen = Freeze(team=acme, at=NOON, by="Ada", reason="the budget is gone.")
    assert str(frozen).endswith("by Ada: the budget is gone.")
    frozen.reason = "the budget is gone"
    assert str(frozen).endswith("by Ada: the budget is gone.")


def test_a_freeze_needs_no_fresh_sign_in_and_its_end_does(confirmed, bill, acme):
    browser = confirmed(bill, ago=601)
    browser.post("/cloud-time/freeze/", {"reason": "budget is gone"})
    _, answer = lift(browser)
    assert (answer.status_code, "new month</textarea>" in answer.content.decode()) == (409, True)
    assert Freeze.objects.of(acme).exists()


def test_a_team_cannot_lift_the_freeze_of_everybody(client_of, ada, acme, clock):
    Freeze.objects.create(team=None, at=NOON, by="the operator", reason="incident")
    browser, everybodys = client_of(ada), str(Freeze.objects.get().pk)
    browser.post("/cloud-time/freeze/", {"reason": "please", "lift": everybodys})
    assert Freeze.objects.get().team is None


def test_limits_are_set_in_dollars_and_audited(client_of, ada, acme, clock):
    given = {"operation_hours": "24", "operation_cost": "50.5", "approval_cost": "10", "user_day": "100"}
    given |= {"team_day": "200", "team_month": "1000", "engine_hours": "100", "reason": "Q3 budget"}
    client_of(ada).post("/cloud-time/limits/", given)
    assert Limits.objects.of(acme).get().operation_cost == 5_050_000_000
    entry = Entry.objects.get(action="cloudtime.limits")
    assert (entry.before["operation_cost"], entry.after["operation_cost"]) == ("500.00", "50.50")
    assert entry.reason == "Q3 budget"


@pytest.mark.parametrize("wrong", ["-1", "NaN", "1e99", "", "1.001"])
def test_limits_that_are_none_change_nothing(client_of, ada, acme, clock, wrong):
    names = ("operation_hours", "operation_cost", "approval_cost", "user_day", "team_day", "team_month", "engine_hours")
    given = dict.fromkeys(names, "1") | {"team_day": wrong, "reason": "Q3 budget"}
    answer = client_of(ada).post("/cloud-time/limits/", given)
    assert (answer.status_code, "Q3 budget</textarea>" in answer.content.decode()) == (422, True)
    assert Limits.objects.count() == 0


def rows_of(browser):
    text = browser.post("/cloud-time/ledger.csv").content.decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def test_the_sheet_has_every_entry_and_adds_up(client_of, audra, asked, api):
    sweep()
    (row,) = rows_of(client_of(audra))
    assert (row["Dollars"], row["Hours"], row["Who"]) == ("7.50000000", "3.00", "Bill")


def test_taking_the_sheet_along_is_audited_and_looking_for_it_takes_nothing(client_of, audra, acme):
    browser = client_of(audra)
    assert browser.get("/cloud-time/ledger.csv").status_code == 403
    assert not Entry.objects.exists()
    rows_of(browser)
    entry = Entry.objects.get()
    assert (entry.action, entry.actor, entry.team) == ("cloudtime.exported", audra, acme)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "＝1"])
def test_no_cell_of_the_sheet_becomes_a_formula(client_of, audra, engine, bill, bills_key, api, text):
    ask(engine, bill, bills_key, reason=text)
    sweep()
    (row,) = rows_of(client_of(audra))
    assert row["Why"] == f"'{text}"


@pytest.mark.parametrize(
    "column", ["engine_name", "engine_uid", "connection_name", "user_name", "approved_name", "reason"]
)
def test_no_column_of_the_sheet_takes_a_formula(asked, api, column):
    sweep()
    entry = LedgerEntry.objects.get()
    setattr(entry, column, '=HYPERLINK("http://evil.example")')
    _, cells = csv.reader(sheet.lines([entry]))
    assert [cell for cell in cells if "HYPERLINK" in cell] == ['\'=HYPERLINK("http://evil.example")']


def test_harmless_text_stays_as_it_is():
    assert sheet.safe("finish the render") == "finish the render"


def test_the_sheet_of_another_team_is_empty(client_of, mallory, asked, api):
    sweep()
    assert rows_of(client_of(mallory)) == []
    assert LedgerEntry.objects.count() == 1


@pytest.fixture
def yesterday(engine, clock):
    """The engine was checked, and a day has passed."""
    assert checks.check_all(clock.at) == 1
    clock.advance(days=1)


def checked(api, connection, clock):
    seen(connection, api, "eng_1")
    connection.refreshed_at = clock.at
    connection.save(update_fields=["refreshed_at"])
    checks.check_all(clock.at)
    return DayCheck.objects.latest("day")


def test_a_day_without_purchases_has_nothing_to_explain(yesterday, api, acme_connection, clock):
    assert checked(api, acme_connection, clock).unexplained == 0


def test_hours_of_the_ledger_explain_what_moved(yesterday, api, acme_connection, clock, bill, bills_key):
    api.move_end("eng_1", timedelta(days=2))
    engine = seen(acme_connection, api, "eng_1")
    ask(engine, bill, bills_key)
    sweep()
    clock.advance(minutes=3)
    found = checked(api, acme_connection, clock)
    assert (found.ledger_hours, found.unexplained) == (Decimal(3), Decimal(48))


@pytest.mark.parametrize(("off", "unexplained"), [(119, 0), (-119, 0), (180, Decimal("0.05"))])
def test_an_end_that_a_purchase_may_have_is_explained_by_its_entry(
    api, acme_connection, clock, engine, bill, bills_key, off, unexplained
):
    checks.check_all(clock.at)
    clock.advance(minutes=1)
    api.faults = [("wrong_end", timedelta(seconds=off))]
    ask(engine, bill, bills_key)
    sweep()
    clock.advance(days=1)
    assert checked(api, acme_connection, clock).unexplained == unexplained


def test_e28_what_a_reading_alone_shows_is_listed_with_the_check(client_of, victor, asked, api, clock):
    listed = "Booked because a reading showed it"
    assert listed not in words(client_of(victor).get(URL))
    api.faults = [("silence",)]
    sweep()
    api.extend("eng_1", 3)  # the same hours, bought outside the portal
    settle(clock, asked, minutes=1)
    page = client_of(victor).get(URL)
    assert [entry.operation_id for entry in page.context["by_reading"]] == [asked.pk]
    assert f"{listed}, in the last 31 days" in words(page)


@pytest.mark.django_db(transaction=True)
def test_a_worker_checks_without_beat_and_without_messages(engine, clock):
    tasks.stopping.set()  # after one round
    tasks._tick()
    tasks.stopping.clear()
    assert DayCheck.objects.get().engine == engine


def test_hours_without_an_entry_are_shown(client_of, bill, yesterday, api, acme_connection, clock):
    api.move_end("eng_1", timedelta(hours=6))
    checked(api, acme_connection, clock)
    assert "extended outside this portal" in words(client_of(bill).get(URL))


def test_an_engine_is_checked_once_a_day(yesterday, api, acme_connection, clock):
    checked(api, acme_connection, clock)
    assert checks.check_all(clock.at) == 0


def test_an_engine_with_an_open_purchase_is_checked_later(asked, api, clock):
    assert checks.check_all(clock.at) == 0
    assert Operation.objects.get().state == "requested"


def test_a_reading_of_long_ago_is_no_ground_for_a_check(engine, clock):
    clock.advance(minutes=10)
    assert checks.check_all(clock.at) == 0


def test_whoever_runs_the_portal_freezes_every_team(acme, other_team, engine, bill, bills_key):
    call_command("freeze_spending", reason="incident", stdout=io.StringIO())
    call_command("freeze_spending", reason="again", stdout=io.StringIO())
    assert Entry.objects.filter(action="cloudtime.frozen", reason="incident").count() == 2
    with pytest.raises(Frozen, match="incident"):
        ask(engine, bill, bills_key)


def test_whoever_runs_the_portal_lets_it_go_on(acme, engine, bill, bills_key, api):
    call_command("freeze_spending", reason="incident", stdout=io.StringIO())
    call_command("freeze_spending", "--lift", reason="over", stdout=io.StringIO())
    assert ask(engine, bill, bills_key).state == "requested"


def test_billing_takes_a_queued_purchase_back_on_its_page(client_of, bill, asked):
    browser = client_of(bill)
    assert f"/cloud-time/{asked.pk}/cancel/" in browser.get(f"/operations/{asked.pk}/").content.decode()
    browser.post(f"/cloud-time/{asked.pk}/cancel/", {"reason": "not needed after all"})
    assert fresh(asked).state == "cancelled"
    assert Entry.objects.filter(action="operation.cancelled", actor=bill).count() == 1


def test_who_may_not_spend_may_not_take_back(client_of, olga, asked):
    assert client_of(olga).post(f"/cloud-time/{asked.pk}/cancel/").status_code == 403
    assert fresh(asked).state == "requested"
