"""What a session keeps across restarts: each symbol's position, its detector's memory, and how to go on from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shared.detection.reading import Status
from streamer.judging import Judging
from streamer.symbol_state import SNAPSHOT_VERSION, SymbolState

REMEMBER_EVERY = 100  # windows learnt between two snapshots of a detector's memory
_COLUMNS = ("trade_count", "volume", "avg_trade_size", "return", "volatility")


class Remembering(Judging):
    """A position is small and taken with each closed window; a detector's memory is large and rarely taken."""

    def take_dirty(self, symbols: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
        """Return the snapshots of those symbols (None: all) that changed since they were last taken, msgpack-ready.

        A symbol with a closed window that is not judged yet is left out: its snapshot would have forgotten it.
        """
        unjudged = {id(state) for state, _ in self._closed}
        asked = self.states.values() if symbols is None else [self.states[s] for s in symbols if s in self.states]
        for state in asked:
            state.own()
        changed = [s for s in asked if s.seen + s.changes != s.taken and id(s) not in unjudged and s.last_ms]
        for state in changed:
            state.taken = state.seen + state.changes
        return {state.symbol: state.snapshot(self.kind.value) for state in changed}

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return the state of every symbol. The detectors' memories and the models are kept apart, they are big."""
        return {symbol: state.snapshot(self.kind.value) for symbol, state in self.states.items()}

    def take_memories(self, *, at_least: int = REMEMBER_EVERY, most: int = 2) -> dict[str, dict[str, Any]]:
        """Return memories (past windows and scores) that have grown by `at_least` windows since last taken, `most` of
        them: each takes a third of a millisecond. Take them right after a `tick`, which leaves no window unjudged."""
        taken: dict[str, dict[str, Any]] = {}
        for state in self.states.values() if not self._closed else ():
            if len(taken) >= most:
                break
            if state.anomaly is not None and state.anomaly.learnt - state.remembered >= at_least:
                state.remembered = state.anomaly.learnt
                taken[state.symbol] = self.memory(state.symbol)
        return taken

    def memory(self, symbol: str) -> dict[str, Any]:
        """Return a symbol's memory: `through_ms` is the start of the newest window in it."""
        state = self.states[symbol]
        return {
            "version": SNAPSHOT_VERSION,
            "through_ms": state.aggregator.newest_closed_ms,
            "anomaly": state.anomaly.snapshot() if state.anomaly is not None else None,
        }

    def restore(
        self,
        symbol: str,
        snapshot: Mapping[str, Any],
        model: tuple[bytes, int] | None = None,
        *,
        memory: Mapping[str, Any] | None = None,
        rows: Iterable[Mapping[str, Any]] = (),
    ) -> bool:
        """Continue from a snapshot of the same settings; False when it cannot be used, and nothing has changed.

        Args:
            model: the stored forest and the number of windows it was fitted after. One that cannot be read is left
                out and counted: it is fitted again.
            memory: what `memory` returned, at or before the snapshot's moment.
            rows: the stored windows behind the memory's, ascending.
        """
        if symbol not in self.states or snapshot.get("version") != SNAPSHOT_VERSION:
            return False
        if snapshot.get("kind") != self.kind.value:
            return False
        fresh = SymbolState(self._settings, self.market, symbol)
        try:
            fresh.restore(snapshot)
            if fresh.anomaly is not None and snapshot["anomaly"] is not None:
                if memory is not None and memory["version"] == SNAPSHOT_VERSION and memory["anomaly"] is not None:
                    fresh.anomaly.restore(memory["anomaly"])
                newest_ms = fresh.aggregator.newest_closed_ms
                for row in rows:
                    if row["status"] != Status.UNSCORABLE.value and row["start_ms"] <= newest_ms:
                        fresh.anomaly.relearn(tuple(row[name] for name in _COLUMNS), row["score"], row.get("end_ms"))
                fresh.anomaly.restore_counters(snapshot["anomaly"])
                fresh.remembered = memory["anomaly"]["learnt"] if memory is not None and memory["anomaly"] else 0
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            return False
        if fresh.anomaly is not None and model is not None:
            try:
                fresh.anomaly.load_model(*model)
            except ValueError:
                self.rejected["model_unusable"] += 1
        before = self.states[symbol]
        before.own()
        self._gone_trades += before.seen
        self.states[symbol] = self._adopted(fresh)  # in its place: other threads may be counting them
        self.newest_ms = max(self.newest_ms, fresh.last_ms)
        self._resume_parser(fresh)
        return True

    def _resume_parser(self, state: SymbolState) -> None:
        if state.last_id >= 0 and not state.waiting:
            self.parser.resume({f"{self.kind.value}:{state.symbol}": state.last_id})
            state.hi = -1
