"""The Telegram channel against a Telegram of our own: every refusal as its own case, limits, order, the picture."""

from __future__ import annotations

import json
import time

import pytest
from alert_examples import EVERY_KIND, NOON_MS, initiator, system, volume_spike
from delivery_world import World, telegram_to
from test_alert_render import alert_of

from local.telegram import CHAT, Answer, FakeTelegram, refusal
from shared.alerts.channels.telegram import long_id, short_id
from shared.alerts.lanes import Threads
from shared.alerts.model import Severity
from shared.alerts.pace import Health
from shared.alerts.service import DeliveryState
from shared.clock import ManualClock, SystemClock
from shared.errors import DeliveryError
from shared.settings import AlertSettings, Settings, StormSettings
from shared.storage.alerts import AlertRepository
from shared.storage.channel_states import ChannelStateRepository

PNG = b"\x89PNG\r\n\x1a\n picture"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON_MS)


@pytest.mark.parametrize("example", EVERY_KIND)
def test_each_kind_arrives_as_its_text(phone: FakeTelegram, clock, example):
    alert = alert_of(example())
    receipt = telegram_to(phone, clock).send(alert)
    (shown,) = phone.shown
    assert receipt.reference == str(shown.message_id)
    assert shown.text.startswith(alert.text)
    assert shown.spans[0] == ("b", alert.text.split("\n")[0])
    assert len(shown.buttons) == (0 if alert.detector.value == "system" else 3)


def test_lesser_alerts_arrive_silently(phone, clock):
    channel = telegram_to(phone, clock)
    channel.send(alert_of(volume_spike(strength=1.0)))
    channel.send(alert_of(volume_spike(strength=2.0)))
    assert [shown.silent for shown in phone.shown] == [True, False]
    telegram_to(phone, clock, silent_below=Severity.CRITICAL).send(alert_of(volume_spike(strength=2.0)))
    assert phone.shown[-1].silent


@pytest.mark.parametrize(
    ("named", "wait_s"), [(7, 7.0), (2.5, 2.5), (None, 30.0), ("soon", 30.0), (-1, 30.0), (10**9, 86_400.0)]
)
def test_f503_nothing_is_sent_before_the_time_that_a_429_names(phone, clock, named, wait_s):
    """F503: int, float, absent, nonsense; not before, not lost, once."""
    parameters = {} if named is None else {"retry_after": named}
    phone.script("sendMessage", refusal(429, "Too Many Requests", **parameters))
    channel = telegram_to(phone, clock)
    with pytest.raises(DeliveryError) as caught:
        channel.send(alert_of(initiator()))
    assert caught.value.retry_after_s == wait_s
    if wait_s > 3:
        with pytest.raises(DeliveryError):
            channel.send(alert_of(initiator()))
        assert len(phone.received) == 1  # not even asked
    clock.advance(round(wait_s * 1000))
    channel.send(alert_of(initiator()))
    assert len(phone.shown) == 1


def test_f503_one_message_a_second_in_order(phone):
    channel = telegram_to(phone, SystemClock())
    began = time.monotonic()
    for symbol in ("A", "B", "C"):
        channel.send(alert_of(volume_spike(symbol=symbol)))
    assert time.monotonic() - began >= 1.9
    assert [text.split("Symbol: ")[1][0] for text in phone.texts] == ["A", "B", "C"]
    gaps = [b.at_s - a.at_s for a, b in zip(phone.shown, phone.shown[1:], strict=False)]
    assert min(gaps) >= 0.9


def test_f503_twenty_a_minute_to_a_group(clock):
    with FakeTelegram(chats=(-100500,)) as group:
        channel = telegram_to(group, clock, chat_id=-100500)
        for _ in range(20):
            channel.send(alert_of(volume_spike()))
        with pytest.raises(DeliveryError) as caught:
            channel.send(alert_of(volume_spike()))
        assert caught.value.retry_after_s is not None
        assert 20 < caught.value.retry_after_s <= 60
        assert len(group.shown) == 20
        clock.advance(60_000)
        channel.send(alert_of(volume_spike()))


def test_f503_over_the_limit_comes_one_summary(clock):
    """Even where the settings allow thirty single alerts a minute, a group gets twenty and then a summary."""
    with FakeTelegram(chats=(-100500,)) as group:
        settings = Settings(alerts=AlertSettings(storm=StormSettings(notifications=30)))
        world = World(NOON_MS, settings)
        world.channels = [telegram_to(group, world.clock, chat_id=-100500)]
        service = world.service()
        for number in range(60):
            service.handle(volume_spike(NOON_MS, f"S{number}USDT"))
        assert len(group.shown) <= 20
        world.pass_minutes(5, service)
        assert sum("MANY ALERTS AT ONCE" in text for text in group.texts) == 1
        assert AlertRepository(world.state).pending("telegram") == []


@pytest.mark.parametrize(
    "answer",
    [Answer(500, {"ok": False}), Answer(502, b"<html>bad gateway</html>"), Answer(close=True), Answer(200, b"{")],
)
def test_f504_trouble_at_telegram_is_tried_again(phone, clock, answer):
    """F504: 500, 502, a line that is cut, nonsense: pending, then sent once."""
    world = World(NOON_MS)
    world.channels = [telegram_to(phone, world.clock)]
    phone.script("sendMessage", answer)
    service = world.service()
    assert service.handle(volume_spike()).deliveries["telegram"] is DeliveryState.PENDING
    world.pass_minutes(1, service)
    assert len(phone.shown) == 1


def test_f504_a_telegram_that_hangs_delays_no_other_channel(phone):
    from alert_faults import KeepingChannel

    world = World(SystemClock().now_ms())
    other = KeepingChannel("console")
    world.channels = [telegram_to(phone, SystemClock()), other]
    phone.script("sendMessage", Answer(200, {"ok": True}, hang_s=2.5))
    service = world.service(lanes=Threads())
    began = time.monotonic()
    service.handle(volume_spike(world.clock.now_ms()))
    assert len(other.got) == 1
    assert time.monotonic() - began < 1.0
    service.settle(6.0)


def test_f505_text_that_cannot_be_parsed_is_sent_again_as_plain_text_once(phone, clock):
    phone.script("sendMessage", refusal(400, "Bad Request: can't parse entities: Unsupported start tag"))
    channel = telegram_to(phone, clock)
    alert = alert_of(initiator())
    channel.send(alert)
    first, second = phone.received
    assert first.params["parse_mode"] == "HTML"
    assert "parse_mode" not in second.params
    assert phone.texts[0].startswith(alert.text)
    assert channel.counters["plain_text"] == 1
    phone.script("sendMessage", *[refusal(400, "Bad Request: can't parse entities")] * 2)
    with pytest.raises(DeliveryError) as caught:
        channel.send(alert)
    assert not caught.value.retryable  # once as plain text, then it is this alert that is wrong
    assert len(phone.received) == 4


def test_f505_too_long_is_cut_between_parts_never_inside_an_entity(phone, clock):
    from dataclasses import replace

    lines = [f"<b>&lt;line {n}</b> & so on " + "x&<>" * 30 for n in range(120)]
    alert = replace(alert_of(volume_spike()), text="\n".join(lines))
    telegram_to(phone, clock).send(alert)
    assert len(phone.shown) > 3
    assert all(len(shown.text) <= 4096 for shown in phone.shown)
    whole = "\n".join(phone.texts)
    assert whole.startswith(alert.text)
    assert all(not received.params["text"].count("&l\n") for received in phone.received)
    huge = replace(alert, text="🚀<" * 9000)
    telegram_to(phone, ManualClock(NOON_MS)).send(huge)


@pytest.mark.parametrize(
    ("answer", "cure"),
    [
        (refusal(401, "Unauthorized"), "@BotFather"),
        (refusal(404, "Not Found"), "@BotFather"),
        (refusal(403, "Forbidden: bot was blocked by the user"), "/start"),
        (refusal(403, "Forbidden: bot was kicked from the group chat"), "/start"),
        (refusal(400, "Bad Request: chat not found"), "alerts.telegram.chat_id"),
        (refusal(400, "Bad Request: not enough rights to send text messages to the chat"), "allow the bot to write"),
        (refusal(400, "Bad Request: need administrator rights in the channel chat"), "allow the bot to write"),
        (refusal(400, "Bad Request: CHAT_WRITE_FORBIDDEN"), "allow the bot to write"),
        (refusal(400, "Bad Request: have no write access to the chat"), "allow the bot to write"),
        (refusal(400, "Bad Request: TOPIC_CLOSED"), "allow the bot to write"),
    ],
)
def test_f505_a_dead_destination_is_red_with_the_cure_and_is_not_tried_again(phone, answer, cure):
    world = World(NOON_MS)
    world.channels = [telegram_to(phone, world.clock)]
    phone.script("sendMessage", *[answer] * 5)
    service = world.service()
    service.handle(volume_spike())
    world.pass_minutes(5, service)
    service.handle(volume_spike(NOON_MS, "ETHUSDT"))
    assert len(phone.received) == 1
    state = ChannelStateRepository(world.state, lambda: "x").get("telegram")
    assert state.health is Health.DEAD
    assert cure in state.error


def test_f505_alerts_of_a_chat_without_the_right_to_write_come_when_the_right_is_back(phone):
    world = World(NOON_MS)
    world.channels = [telegram_to(phone, world.clock)]
    phone.script("sendMessage", refusal(400, "Bad Request: not enough rights to send text messages to the chat"))
    service = world.service()
    for number in range(4):
        assert service.handle(volume_spike(NOON_MS, f"S{number}USDT")).deliveries["telegram"] is DeliveryState.PENDING
    world.pass_minutes(20, service)
    assert phone.shown == []
    service.revive("telegram")
    world.pass_minutes(2, service)
    assert all(sum(f"S{number}USDT" in text for text in phone.texts) == 1 for number in range(4))


@pytest.mark.parametrize(
    ("description", "retryable", "wait_s"),
    [
        ("Bad Request: BUTTON_DATA_INVALID", False, None),
        ("Bad Request: message text is empty", False, None),
        ("Bad Request: something new of next year", True, 120.0),
    ],
)
def test_f505_only_what_is_about_the_message_ends_an_alert(phone, clock, description, retryable, wait_s):
    phone.script("sendMessage", refusal(400, description))
    with pytest.raises(DeliveryError) as caught:
        telegram_to(phone, clock).send(alert_of(initiator()))
    assert (caught.value.retryable, caught.value.fatal, caught.value.retry_after_s) == (retryable, False, wait_s)


def test_f505_a_chat_that_moved_is_followed_and_remembered(clock):
    with FakeTelegram(chats=(-1002,)) as phone:
        moved = []
        channel = telegram_to(phone, clock, chat_id=-5, moved=moved.append)
        phone.script("sendMessage", refusal(400, "Bad Request: group chat was upgraded", migrate_to_chat_id=-1002))
        channel.send(alert_of(initiator()))
        channel.send(alert_of(initiator()))
        assert [shown.chat for shown in phone.shown] == ["-1002", "-1002"]
        assert moved == [-1002]


def test_a_moved_chat_survives_a_restart(tmp_path):
    from shared.alerts.wiring import telegram
    from shared.secrets import Secret
    from shared.settings import TelegramSettings
    from shared.storage.sqlite import SqliteTable

    with FakeTelegram(chats=(-1002,)) as phone:
        table, clock = SqliteTable(":memory:"), ManualClock(NOON_MS)
        settings = Settings(alerts=AlertSettings(telegram=TelegramSettings(chat_id="-5", api_url=phone.url)))
        make = lambda: telegram(settings, clock, table, lambda name, _: Secret(phone.token, name), None)  # noqa: E731
        phone.script("sendMessage", refusal(400, "Bad Request: upgraded", migrate_to_chat_id=-1002))
        make().send(alert_of(initiator()))
        assert make().chat_id == -1002


def test_f501_an_answer_that_was_lost_after_the_message_was_shown_is_the_only_duplicate(phone):
    world = World(NOON_MS)
    world.channels = [telegram_to(phone, world.clock)]
    phone.script("sendMessage", Answer(close=True, after=True))
    service = world.service()
    service.handle(volume_spike())
    world.pass_minutes(3, service)
    assert len(phone.texts) == 2  # one fault between accepted and noted: one duplicate, with the same id
    assert len({text.rsplit("/why ", 1)[1] for text in phone.texts}) == 1


@pytest.mark.parametrize("drawn", ["picture", "raises", "nothing", "refused", "slow"])
def test_f506_the_text_never_waits_for_the_picture(phone, drawn):
    """F506: renderer error, too slow, photo refused: the text goes out, without the picture."""

    def picture(alert):
        if drawn == "raises":
            raise ValueError("renderer")
        if drawn == "slow":
            time.sleep(3.0)
        return None if drawn == "nothing" else PNG

    world = World(SystemClock().now_ms())
    clock = SystemClock()
    world.channels = [telegram_to(phone, clock, picture=picture)]
    if drawn == "refused":
        phone.script("sendPhoto", refusal(400, "Bad Request: PHOTO_INVALID_DIMENSIONS"))
    service = world.service(lanes=Threads())
    began = time.monotonic()
    outcome = service.handle(volume_spike(world.clock.now_ms()))
    assert time.monotonic() - began < 1.0
    assert outcome.deliveries["telegram"] is DeliveryState.SENT
    service.settle(8.0)
    assert len(phone.texts) == 1
    expected = 1 if drawn in ("picture", "slow") else 0
    assert len(phone.photos) == expected
    if expected:
        assert phone.photos[0].reply_to == phone.shown[0].message_id
        assert phone.photos[0].silent
    assert AlertRepository(world.state).pending("telegram") == []


def test_a_system_alert_has_no_picture(phone, clock):
    channel = telegram_to(phone, clock, picture=lambda alert: PNG)
    alert = alert_of(system())
    channel.follow_up(alert, channel.send(alert))
    assert phone.photos == []


def test_ids_fit_into_a_button():
    alert_id = alert_of(initiator()).alert_id
    assert long_id(short_id(alert_id)) == alert_id
    assert len(f"m:{short_id(alert_id)}") <= 64
    assert long_id("nonsense") is None
    assert long_id("é") is None


def test_what_the_fake_says_is_json(phone, clock):
    telegram_to(phone, clock).send(alert_of(initiator()))
    assert json.loads(json.dumps(phone.received[0].params))["chat_id"] == CHAT
