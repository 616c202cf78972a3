"""F413: what the session remembers is bounded; once every memory is full, more days add nothing."""

from __future__ import annotations

import gc
import types
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from shared.market.model import Market
from shared.settings import TradeSpikeSettings
from streamer.actions import Action, FitModel
from streamer.session import Session
from tests.streamer.streams import frame, settings, trades

_NOT_OURS = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType)


def reachable(root: Any) -> int:
    """Count the objects that hang on one, elements of containers included."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, _NOT_OURS):
            continue
        seen.add(id(one))
        waiting.extend(gc.get_referents(one))
    return len(seen)


def serve(session: Session, actions: Iterable[Action]) -> None:
    for action in actions:
        if isinstance(action, FitModel):
            session.install(action.symbol, action.request.fit(), action.request)


@pytest.mark.slow
@pytest.mark.parametrize("native", ["1", "0"])
def test_f413_nothing_grows_once_every_memory_is_full(native: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEWATCH_NATIVE", native)
    # Half of the trades are "spikes": the memory of 1,500 ratios fills within minutes.
    spiky = TradeSpikeSettings(window_trades=20, multiple=1.0)
    base = msgspec.structs.replace(settings(), trade_spike=spiky)
    session = Session(base, Market.SPOT, ["BTCUSDT", "ETHUSDT"], together=True)
    stream = sorted(
        [*trades(24_000, seed=1), *trades(24_000, seed=2, symbol="ETHUSDT")], key=lambda trade: trade.event_ms
    )
    messages = [frame(trade) for trade in stream]
    for at in range(200, len(messages), 397):  # some come twice, some never
        messages[at] = messages[at - 150]
    weights: list[int] = []
    lost = 0
    for at in range(0, len(messages), 100):
        batch = messages[at : at + 100]
        serve(session, session.receive_many(batch, stream[min(at + 100, len(stream) - 1)].recv_ms))
        for gap in session.parser.missing():
            lost += gap.size
            serve(session, session.abandon(gap))
        serve(session, session.tick())
        session.take_dirty()
        session.take_memories(at_least=10)
        if at in (20_000, 47_900):
            gc.collect()
            weights.append(reachable(session))
    assert lost > 50
    assert session.models == 2
    assert session.windows > 1_500
    assert all(len(state.spike._past.rarity) == 1_500 for state in session.states.values() if state.spike is not None)
    before, after = weights
    # Forests of other windows have other trees, records come and go: some hundreds, while 28,000 trades have passed.
    assert after < before + 300
