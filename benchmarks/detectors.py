"""How fast months of trades and bars are judged: the bulk rules on arrays, and zipped CSV to signals.

    python -m benchmarks.detectors [--trades N] [--bars N] [--rounds N]
    python -m benchmarks.detectors --trades N --write FOLDER    only write the archive, for `tapewatch evaluate`

CPU seconds of one core, medians. The targets of the specification stand beside each row.
"""

from __future__ import annotations

import argparse
import gzip
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
import numpy.typing as npt

from local.evaluation.columns import Reader
from local.evaluation.spikes import spikes_of
from local.recordings import Recording, discover, read_trades
from local.replay import Replay
from local.terminal import Progress
from shared.clock import MINUTE_MS
from shared.detection.features_bulk import bulk_features
from shared.detection.reading import Detector
from shared.detection.trade_spike import TradeSpikeDetector
from shared.detection.trade_spike_bulk import find_spikes
from shared.market.model import Trade
from shared.settings import SectorSettings, Settings, TradeSpikeSettings, UniverseSettings

Columns = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]
Works = tuple[tuple[str, float | None, Callable[[], object]], ...]

SYMBOLS = ("BTCUSDT", *(f"COIN{number}USDT" for number in range(9)))
START_MS = 1_767_225_600_000
_ROWS = 1_000_000  # written at once


def quantities(count: int) -> np.ndarray:  # type: ignore[type-arg]
    rng = np.random.default_rng(5)
    return np.maximum(1, np.rint(rng.lognormal(-2, 1.4, count) * 1e5)).astype(np.int64) * 1000


def write_archive(folder: Path, sizes: np.ndarray) -> Path:  # type: ignore[type-arg]
    """Write a month as data.binance.vision does: one CSV of spot trades in a zip."""
    rng = np.random.default_rng(6)
    path = folder / "BTCUSDT-trades-2025-03.zip"
    price, now_us = 6_400_000, 1_740_787_200_000_000
    words = ("False", "True")
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("BTCUSDT-trades.csv", "w", force_zip64=True) as out,
    ):
        for first in range(0, len(sizes), _ROWS):
            part = sizes[first : first + _ROWS]
            prices = price + np.cumsum(rng.integers(-3, 4, len(part)))
            times = now_us + np.cumsum(rng.integers(0, 66_000, len(part)))  # 30 a second, as BTCUSDT had
            makers = rng.integers(0, 2, len(part))
            price, now_us = int(prices[-1]), int(times[-1])
            rows = zip(prices.tolist(), part.tolist(), times.tolist(), makers.tolist(), strict=True)
            lines = []
            for n, (at_price, size, at, maker) in enumerate(rows, first):
                quote = at_price * size // 100
                lines.append(
                    f"{4_600_000_000 + n},{at_price // 100}.{at_price % 100:02d}000000,"
                    f"{size // 10**8}.{size % 10**8:08d},{quote // 10**8}.{quote % 10**8:08d},"
                    f"{at},{words[maker]},True\n"
                )
            out.write("".join(lines).encode())
    return path


def python(work: Callable[[], object]) -> Callable[[], object]:
    """Let the work be done as where there is no C compiler."""

    def without() -> object:
        os.environ["TAPEWATCH_NATIVE"] = "0"
        try:
            return work()
        finally:
            del os.environ["TAPEWATCH_NATIVE"]

    return without


def timed(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return median(times)


def step_form(recording: Recording) -> int:
    """The live rule, trade by trade, over the rows of the file."""
    rule, found = TradeSpikeDetector(TradeSpikeSettings(), recording.market, recording.symbol or ""), 0
    for _, row in read_trades(recording):
        if isinstance(row, Trade) and rule.step(row) is not None:
            found += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trades", type=int, default=1_000_000)
    parser.add_argument("--bars", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.write is not None:
        print(write_archive(options.write, quantities(options.trades)))
        return
    progress = Progress("benchmark")
    sizes, settings = quantities(options.trades), Settings()
    with tempfile.TemporaryDirectory() as folder:
        recording = discover([write_archive(Path(folder), sizes)])[0]
        few, forests = frozenset({Detector.TRADE_SPIKE}), Detector.WINDOW_ANOMALY
        works: Works = (
            ("bulk rule on arrays", 20.0, lambda: find_spikes(sizes, settings.trade_spike)),
            ("zipped CSV to arrays", None, lambda: sum(map(len, Reader(recording).blocks()))),
            ("zipped CSV to signals (spikes and windows)", 2.0, lambda: list(_replay(settings, few, recording))),
            ("... and pumps", None, lambda: list(_replay(settings, few | {Detector.PUMP}, recording))),
            ("... and forests, no pumps", None, lambda: list(_replay(settings, few | {forests}, recording))),
            ("without C: spikes in bulk", None, python(lambda: list(spikes_of(recording, settings.trade_spike)))),
            ("without C: spikes and windows", None, python(lambda: list(_replay(settings, few, recording)))),
            ("baseline: row parser and step form, spikes", None, lambda: step_form(recording)),
        )
        _print("trades, one core", options.trades, works, options.rounds, progress)
    minutes = options.bars // len(SYMBOLS)
    bars = bar_columns(minutes)
    with tempfile.TemporaryDirectory() as folder:
        recordings = write_klines(Path(folder), bars)
        universe = UniverseSettings(sectors={"Coins": SYMBOLS[1:]})
        sector = msgspec.structs.replace(Settings(), universe=universe)
        few = frozenset({Detector.SECTOR_INITIATOR, Detector.SECTOR_DIFFUSION})
        _print(
            "bars, ten coins, one core",
            minutes * len(SYMBOLS),
            (
                (
                    "arrays through robust z, all features",
                    0.4,
                    lambda: bulk_features(SectorSettings(), SYMBOLS[0], SYMBOLS[1:], START_MS, *bars),
                ),
                ("gzipped CSV to sector signals, replay", None, lambda: list(_replay(sector, few, *recordings))),
            ),
            options.rounds,
            progress,
        )
    progress.close()


def bar_columns(minutes: int) -> Columns:
    """Return closes, volumes and taker volumes of (minutes, symbols)."""
    rng, shape = np.random.default_rng(7), (minutes, len(SYMBOLS))
    closes = 50 * np.exp(np.cumsum(rng.standard_t(5, shape) * 3e-4, axis=0))
    volumes = rng.lognormal(6, 0.6, shape)
    return closes, volumes, volumes * np.clip(rng.normal(0.5, 0.06, shape), 0.05, 0.95)


def write_klines(folder: Path, bars: Columns) -> list[Recording]:
    for n, symbol in enumerate(SYMBOLS):
        with gzip.open(folder / f"usdm_{symbol}_1m_20260101_20260131.csv.gz", "wb", compresslevel=1) as out:
            for row, (close, volume, taker) in enumerate(zip(*(part[:, n].tolist() for part in bars), strict=True)):
                at, price = START_MS + row * MINUTE_MS, f"{close:.6f}"
                cells = f"{price},{price},{price},{price},{volume:.6f},{at + MINUTE_MS - 1},{volume * close:.6f}"
                out.write(f"{at},{cells},100,{taker:.6f},{taker * close:.6f},0\n".encode())
    return discover([folder])


def _print(title: str, count: int, works: Works, rounds: int, progress: Progress) -> None:
    print(f"{title:<44}{'M/s':>8}{'target':>8}")
    for n, (name, target, work) in enumerate(works):
        seconds = timed(work, rounds)
        progress(n + 1, len(works), name)
        print(f"{name:<44}{count / seconds / 1e6:>8.2f}{'' if target is None else f'{target:>8.1f}'}")


def _replay(settings: Settings, detectors: frozenset[Detector], *recordings: Recording) -> Iterable[object]:
    return Replay(settings, detectors=detectors).run(recordings)


if __name__ == "__main__":
    main()
