"""From closed windows to verdicts, signals and fits; and the models that judge them."""

from __future__ import annotations

from collections.abc import Sequence

from shared.detection.forest import FlatForest, score_many
from shared.detection.reading import Status
from shared.detection.window_anomaly import FitRequest, WindowVerdict
from shared.market.model import Window
from streamer.actions import Action, EmitSignal, FitModel, StoreWindows
from streamer.followed_symbols import FollowedSymbols
from streamer.symbol_state import SymbolState


class Judging(FollowedSymbols):
    """Windows that close together are scored together, with one walk through all their forests."""

    def _close(self, state: SymbolState, windows: Sequence[Window], actions: list[Action]) -> None:
        self._closed.extend((state, window) for window in windows)
        if self._at_once:
            self._judge(actions)

    def _judge(self, actions: list[Action]) -> None:
        """Judge the closed windows, all with one walk through their forests. What is signalled stands before what is
        stored: a position is only kept when everything up to it has been said."""
        if not self._closed:
            return
        closed, self._closed = self._closed, []
        models: list[FlatForest] = []
        rows: list[tuple[float, ...]] = []
        seen: list[tuple[tuple[float, ...] | None, bool]] = []
        for state, window in closed:
            anomaly = state.anomaly
            row = anomaly.see(window) if anomaly is not None else None
            model = anomaly.model if anomaly is not None else None
            seen.append((row, row is not None and model is not None))
            if row is not None and model is not None:
                models.append(model)
                rows.append(row)
        scores = iter(score_many(models, rows).tolist() if models else ())
        verdicts: list[WindowVerdict] = []
        fits: list[Action] = []
        for (state, window), (row, scored) in zip(closed, seen, strict=True):
            self.windows += 1
            state.changes += 1
            anomaly = state.anomaly
            if anomaly is None:
                verdicts.append(WindowVerdict(window, None, None, None, Status.UNSCORABLE))
                continue
            verdict = anomaly.judge(window, row, next(scores) if scored else None)
            verdicts.append(verdict)
            signal = anomaly.signal(verdict)
            if signal is not None:
                actions.append(EmitSignal(signal))
            request = anomaly.fit_due()
            if request is not None:
                fits.append(FitModel(state.symbol, request))
        actions.append(StoreWindows(tuple(verdicts)))
        actions.extend(fits)

    # --- models -------------------------------------------------------------------------------------------------
    def install(self, symbol: str, model: FlatForest, request: FitRequest) -> None:
        """Judge the symbol's next windows with this model."""
        state = self.states.get(symbol)
        if state is not None and state.anomaly is not None:
            state.anomaly.install(model, request)
            state.changes += 1

    def give_up(self, symbol: str, request: FitRequest) -> None:
        """Note that a fit failed: it is asked for again with the next window."""
        state = self.states.get(symbol)
        if state is not None and state.anomaly is not None:
            state.anomaly.give_up(request)

    def due_fits(self) -> list[Action]:
        """Return the fits that were asked for before a restart and not installed; take them before the first trade."""
        fits: list[Action] = []
        for state in self.states.values():
            request = state.anomaly.fit_due() if state.anomaly is not None else None
            if request is not None:
                fits.append(FitModel(state.symbol, request))
        return fits

    def learning(self) -> dict[str, int]:
        """Return the windows learnt so far by each symbol that has no model yet."""
        return {
            symbol: state.anomaly.learnt
            for symbol, state in self.states.items()
            if state.anomaly is not None and state.anomaly.model is None
        }

    @property
    def models(self) -> int:
        """Symbols whose windows are judged by a model."""
        anomalies = (state.anomaly for state in self.states.values())
        return sum(1 for anomaly in anomalies if anomaly is not None and anomaly.model is not None)
