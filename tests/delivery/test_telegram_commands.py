"""Commands and buttons: only from allowed chats, once each, in bounded numbers, answered without markup of others."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from alert_examples import NOON_MS, volume_spike
from delivery_world import World, telegram_to
from fakes import FakeMarketData, make_bar
from hypothesis import given
from hypothesis import strategies as st
from test_alert_render import HOSTILE

from local.telegram import CHAT, FakeTelegram, refusal
from local.telegram_markup import read_html
from shared.alerts.channels.telegram import short_id
from shared.clock import HOUR_MS, MINUTE_MS
from shared.commands.parse import Command, parse, span_ms
from shared.commands.receiver import Receiver
from shared.jobs import outcomes
from shared.jobs.deps import Dependencies
from shared.market.model import Market
from shared.settings import AlertSettings, Settings, TelegramSettings
from shared.storage.bars import BarRepository
from shared.storage.heartbeats import HeartbeatRepository
from shared.storage.mutes import MuteRepository
from shared.storage.outcomes import FeedbackRepository
from shared.storage.signals import SignalRepository

SETTINGS = Settings(alerts=AlertSettings(telegram=TelegramSettings(enabled=True, chat_id=CHAT)))


class Bot:
    """A receiver on a state, and the phone it listens to."""

    def __init__(self, phone: FakeTelegram, allowed: frozenset[str] = frozenset()) -> None:
        self.phone = phone
        self.world = World(NOON_MS, SETTINGS)
        self.channel = telegram_to(phone, self.world.clock)
        self.world.channels = [self.channel]
        self.service = self.world.service()
        market = FakeMarketData(self.world.clock)
        self.deps = Dependencies(SETTINGS, market, self.world.state, self.service, self.world.clock)
        self.receiver = self.another(allowed)

    def another(self, allowed: frozenset[str] = frozenset()) -> Receiver:
        return Receiver(self.channel, self.deps, allowed, poll_s=0)

    def ask(self, text: str, **more: Any) -> str:
        """Type a message and return the answer, "" for silence."""
        before = len(self.phone.texts)
        self.phone.say(text, **more)
        self.receiver.poll_once()
        self.world.clock.advance(1000)
        return "\n".join(self.phone.texts[before:])


@pytest.fixture
def bot(phone: FakeTelegram) -> Bot:
    return Bot(phone)


def test_the_whole_conversation(bot: Bot):
    assert "/why ID" in bot.ask("/help")
    assert "No alerts" in bot.ask("/alerts")
    alert = bot.service.handle(volume_spike()).alert
    assert alert is not None
    bot.world.clock.advance(2000)
    assert alert.alert_id[:12] in bot.ask("/alerts@demo_bot")
    assert bot.ask("/top").endswith("1  BTCUSDT")
    why = bot.ask(f"/why {alert.alert_id[:8]}")
    assert "ratio = 5.2" in why
    assert "threshold rarity_max = 0.01" in why
    assert "telegram: sent at" in why
    assert "Outcome: not known yet" in why
    assert "BTCUSDT is muted until 2026-01-13 13:" in bot.ask("/mute btc 1h")
    assert "BTCUSDT until" in bot.ask("/mutes")
    held = bot.service.handle(volume_spike(NOON_MS + 61 * MINUTE_MS))
    assert held.held == "muted"
    assert "may speak again" in bot.ask("/unmute BTCUSDT")
    assert bot.ask("/mutes") == "Nothing is muted."
    assert "Status: " in bot.ask("/status")
    assert "Test alert " in bot.ask("/test")
    assert "in this minute already" in bot.ask("/test")
    assert "I do not know" in bot.ask("/dance")
    assert bot.ask("hello") == ""


def test_the_buttons_mute_and_keep_feedback_with_the_alert(bot: Bot):
    alert = bot.service.handle(volume_spike()).alert
    assert alert is not None
    for data in [data for _, data in bot.phone.shown[0].buttons]:
        bot.phone.press(data)
    bot.phone.press("u:" + short_id(alert.alert_id), user=8)
    bot.phone.press("u:nonsense")
    bot.phone.press("x" * 200)
    bot.receiver.poll_once()
    notes = [answer["text"] for answer in bot.phone.answered]
    assert notes[0].startswith("BTCUSDT is muted until 2026-01-13 13:00")
    assert notes[1:4] == ["Noted: useful. Thank you.", "Noted: noise. Thank you.", "Noted: useful. Thank you."]
    assert FeedbackRepository(bot.world.state).counts(alert.alert_id) == {"useful": 1, "noise": 1}
    assert len(MuteRepository(bot.world.state).active(bot.world.clock.now_ms())) == 1
    assert bot.receiver.counters["unknown_button"] == 2
    assert "Feedback: useful 1, noise 1" in bot.ask(f"/why {alert.alert_id}")


def test_f707_strangers_and_forgeries_run_nothing(bot: Bot):
    """F707: another chat, a replayed update id, nonsense of every shape: commands run 0, no answer."""
    forged: list[dict[str, Any]] = [
        {}, {"update_id": "1"}, {"update_id": True}, {"update_id": 900, "message": None},
        {"update_id": 901, "message": {"text": "/mute BTCUSDT 1h"}},
        {"update_id": 902, "message": {"chat": [], "from": {"id": CHAT}, "text": "/mute BTCUSDT 1h"}},
        {"update_id": 903, "message": {"chat": {"id": str(CHAT)}, "text": "/mute BTCUSDT 1h"}},
        {"update_id": 904, "callback_query": {"data": "m:x", "from": {"id": 7}, "message": {"chat": {"id": 5}}}},
        {"update_id": 905, "message": {"chat": {"id": 5}, "from": {"id": CHAT}, "text": "/mute BTCUSDT 1h"}},
        {"update_id": 906, "message": {"chat": {"id": CHAT}, "from": {"id": 7}, "text": "/" + "x" * 1_000_000}},
        {"update_id": 907, "message": {"chat": {"id": CHAT}, "from": {"id": 7}, "text": {"a": 1}}},
    ]  # fmt: skip
    for update in forged:
        bot.phone.push(update)
    bot.receiver.poll_once()
    assert MuteRepository(bot.world.state).active(NOON_MS) == []
    assert bot.receiver.counters["foreign_chat"] == 2
    assert bot.receiver.counters["commands"] == 1  # the megabyte of x: "I do not know that command"
    bot.phone.say("/mute BTCUSDT 1h", update_id=906)  # replayed
    bot.receiver.poll_once()
    assert MuteRepository(bot.world.state).active(NOON_MS) == []


def test_f707_a_restart_does_not_run_an_old_command_again(bot: Bot):
    bot.ask("/mute BTCUSDT 1h")
    bot.ask("/unmute BTCUSDT")
    bot.receiver._leases.release(bot.receiver._lease)  # type: ignore[union-attr,arg-type]
    later = bot.another()
    later.poll_once()
    assert later.counters["commands"] == 0
    assert MuteRepository(bot.world.state).active(NOON_MS) == []


def test_further_chats_may_be_allowed(phone: FakeTelegram):
    phone.chats.add("77")
    bot = Bot(phone, allowed=frozenset({"77"}))
    bot.ask("/mute BTCUSDT 1h", chat=77)
    assert len(MuteRepository(bot.world.state).active(NOON_MS)) == 1


def test_f708_a_flood_is_answered_twenty_times_a_minute(bot: Bot):
    for _ in range(100):
        bot.phone.say("/mutes")
    bot.receiver.poll_once()
    assert bot.receiver.counters["commands"] == 20
    assert bot.receiver.counters["flood"] == 80
    bot.phone.say("/mutes", user=8)  # another person is not silenced by it
    bot.receiver.poll_once()
    assert bot.receiver.counters["commands"] == 21


@pytest.mark.parametrize(
    "words",
    ["", "BTCUSDT soon", "BTCUSDT 1y", "BTCUSDT -1h", "BTCUSDT 0h", "BTCUSDT 999d", "BTCUSDT 1h now", "\x00 1h"],
)
def test_f708_nonsense_mutes_nothing_and_is_told_the_form(bot: Bot, words):
    assert "Write /mute SYMBOL" in bot.ask(f"/mute {words}")
    assert MuteRepository(bot.world.state).active(NOON_MS) == []


def test_f708_answers_are_escaped(bot: Bot):
    for name in HOSTILE:
        bot.world.clock.advance(61_000)
        bot.receiver._asked.clear()
        bot.phone.say(f"/mute {name} 1h")
        bot.phone.say("/mutes")
        bot.phone.say(f"/why {name}")
    bot.receiver.poll_once()
    sent = [one.params["text"] for one in bot.phone.received if one.method == "sendMessage"]
    for text in sent:
        plain, spans = read_html(text)
        assert spans == []
        assert "\x00" not in plain


@given(st.text())
def test_f708_anything_can_be_typed(text):
    for typed in (text, f"/mute {text}", f"/{text}", f"/why {text}"):
        command = parse(typed)
        assert command is None or isinstance(command, Command)
    assert span_ms(text) is None or span_ms(text) > 0  # type: ignore[operator]


def test_another_listener_is_a_state_and_a_pause_not_an_error(bot: Bot):
    """409: two receivers on one token, or a webhook."""
    bot.phone.script("getUpdates", *[refusal(409, "Conflict: terminated by other getUpdates request")] * 3)
    pauses = [bot.receiver.poll_once() for _ in range(3)]
    assert pauses == sorted(pauses)
    assert pauses[0] >= 2
    assert bot.receiver.state.startswith("conflict")
    beat = HeartbeatRepository(bot.world.state).all()["telegram-commands"]
    assert str(beat["listening"]).startswith("conflict")
    assert bot.receiver.poll_once() == 0.0
    assert bot.receiver.state == "listening"


def test_only_one_of_two_instances_listens(bot: Bot):
    other = bot.another()
    assert bot.receiver.poll_once() == 0.0
    assert other.poll_once() > 0
    assert other.state == "standby"
    assert sum(one.method == "getUpdates" for one in bot.phone.received) == 1


def test_a_message_from_the_chat_revives_a_dead_destination(bot: Bot):
    bot.phone.script("sendMessage", refusal(403, "Forbidden: bot was blocked by the user"))
    bot.service.handle(volume_spike())
    bot.world.pass_minutes(3, bot.service)
    assert bot.phone.texts == []
    bot.ask("/start")
    bot.world.pass_minutes(1, bot.service)
    assert any("VOLUME SPIKE" in text or "Volume spike" in text for text in bot.phone.texts)


@pytest.mark.parametrize("sign", ["my_chat_member", "channel_post"])
def test_a_right_given_back_revives_a_dead_destination(bot: Bot, sign: str):
    """A broadcast channel has no members who could write /start."""
    bot.phone.script("sendMessage", refusal(400, "Bad Request: need administrator rights in the channel chat"))
    bot.service.handle(volume_spike())
    bot.phone.push({"update_id": 1, sign: {"chat": {"id": CHAT + 1}, "text": "/mutes"}})
    bot.receiver.poll_once()
    bot.world.pass_minutes(3, bot.service)
    assert bot.phone.texts == []  # another chat's
    bot.phone.push({"update_id": 2, sign: {"chat": {"id": CHAT}, "text": "/mutes"}})
    bot.receiver.poll_once()
    bot.world.pass_minutes(1, bot.service)
    assert sum("VOLUME SPIKE" in text for text in bot.phone.texts) == 1
    assert bot.receiver.counters["commands"] == 0


def test_it_listens_in_a_thread_until_it_is_stopped(phone: FakeTelegram):
    bot = Bot(phone)
    bot.receiver.poll_s = 1
    stop = threading.Event()
    thread = bot.receiver.start(stop)
    phone.say("/help")
    assert phone.wait_for(1)[0].text.startswith("What I understand")
    stop.set()
    began = time.monotonic()
    thread.join(5)
    assert not thread.is_alive()
    assert time.monotonic() - began < 4


def test_why_shows_what_came_of_it(bot: Bot):
    alert = bot.service.handle(volume_spike(NOON_MS - MINUTE_MS)).alert
    assert alert is not None
    bars = BarRepository(bot.world.state)
    for minute in range(-800, 70):
        at_ms = NOON_MS + minute * MINUTE_MS
        close = 100.0 if minute < 0 else 101.0
        bars.put_minute(Market.SPOT, at_ms, {"BTCUSDT": make_bar("BTCUSDT", at_ms, market=Market.SPOT, close=close)})
    bot.world.clock.set(NOON_MS + 2 * HOUR_MS)
    assert outcomes.run(bot.deps, scheduled_ms=bot.world.clock.now_ms()).completed == 1
    assert "Outcome from 2026-01-13 12:00:00 UTC at 101: 5 min" in bot.ask(f"/why {alert.alert_id}")


def test_a_mute_by_a_person_is_kept_with_the_person(bot: Bot):
    bot.ask("/mute ETHUSDT 30m", user=99)
    (mute,) = MuteRepository(bot.world.state).active(bot.world.clock.now_ms())
    assert mute.reason == "by 99"
    assert SignalRepository(bot.world.state).range()[0] == []


def test_on_aws_the_streamer_listens_although_the_channel_stands_behind_a_queue(phone: FakeTelegram, monkeypatch):
    from shared.commands.listening import receiver_for

    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", phone.token)
    bot = Bot(phone)
    settings = Settings(
        alerts=AlertSettings(telegram=TelegramSettings(enabled=True, chat_id=CHAT, api_url=phone.url)),
    )
    deps = Dependencies(settings, bot.deps.market_data, bot.world.state, bot.service, bot.world.clock)
    receiver = receiver_for(deps, [])
    assert receiver is not None
    receiver.poll_s = 0
    phone.say("/help")
    receiver.poll_once()
    assert phone.texts[0].startswith("What I understand")
    assert (
        receiver_for(Dependencies(Settings(), bot.deps.market_data, bot.world.state, bot.service, bot.world.clock), [])
        is None
    )
