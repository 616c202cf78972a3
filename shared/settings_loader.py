"""Read `tapewatch.yaml` and the environment into one `Settings`, and remember where each value came from.

A file is data from outside: at most 64 KB, no aliases (317 bytes can expand to 25 MB), no repeated keys, no
unknown keys; each refusal names the line or the path and says what to change.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import yaml

from shared.errors import ConfigurationError
from shared.settings import Section, Settings
from shared.settings_checks import check
from shared.settings_ranges import check_ranges

DEFAULT_FILE = "tapewatch.yaml"
PREFIX = "TAPEWATCH_"
MAX_BYTES = 64 * 1024
MAX_DEPTH = 20
_TELEGRAM_TOKEN = re.compile(r"^\d{6,}:[A-Za-z0-9_-]{30,}$")


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """`sources` maps each dotted path to `default`, `<file>` or the environment variable's name."""

    settings: Settings
    sources: Mapping[str, str]


def load_settings(path: str | None = None, environ: Mapping[str, str] | None = None) -> LoadedSettings:
    """Read the file (default `tapewatch.yaml` where it exists, or `TAPEWATCH_CONFIG`), then the environment.

    Raises:
        ConfigurationError: the file is missing though it was named, or any value cannot be used.
    """
    env = os.environ if environ is None else environ
    named = path or env.get(PREFIX + "CONFIG")
    file = Path(named or DEFAULT_FILE)
    tree: dict[str, Any] = {}
    if named or file.is_file():
        tree = _read_file(file)
    sources = {dotted: str(file) for dotted in _leaves(tree)}
    for name, dotted, value in _environment(env):
        _place(tree, name, dotted, value)
        for known in [key for key in sources if key.startswith(dotted + ".")]:
            del sources[known]
        sources[dotted] = name
    settings = parse_settings(tree)
    for dotted in _leaves(msgspec.to_builtins(settings)):
        if not any(dotted == known or dotted.startswith(known + ".") for known in sources):
            sources[dotted] = "default"
    return LoadedSettings(settings, sources)


def parse_settings(tree: Mapping[str, Any]) -> Settings:
    """Turn plain data into checked settings.

    Raises:
        ConfigurationError: an unknown key, a wrong type or an impossible value, with its path.
    """
    try:
        settings = msgspec.convert(tree, Settings)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(_explain(str(exc))) from None
    except (OverflowError, ValueError):  # a number of thousands of digits
        raise ConfigurationError("the configuration holds a number of no ordinary size") from None
    token = settings.alerts.telegram.bot_token
    if _TELEGRAM_TOKEN.match(token):
        raise ConfigurationError(
            "alerts.telegram.bot_token holds a token itself: put the token into an environment variable or a secret "
            "and write that name here"
        )
    settings = _with_channels(_upper_cased(settings))
    check(settings)
    check_ranges(settings)
    return settings


def _with_channels(settings: Settings) -> Settings:
    """Switch off what `alerts.channels` leaves out, so that everybody else asks one question only."""
    replace, alerts = msgspec.structs.replace, settings.alerts
    parts = {
        name: replace(part, enabled=part.enabled and alerts.uses(name))
        for name, part in (("telegram", alerts.telegram), ("webhook", alerts.webhook), ("sns", alerts.sns))
    }
    return replace(settings, alerts=replace(alerts, **parts))


def _upper_cased(settings: Settings) -> Settings:
    """Write every symbol as the exchange does: trimmed, upper case. Whether it is listed only the exchange knows."""

    def names(symbols: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(symbol.strip().upper() for symbol in symbols))

    def sectors(given: Mapping[str, tuple[str, ...]] | None) -> dict[str, tuple[str, ...]] | None:
        # A repeated symbol inside a sector is refused by the check, not silently dropped here.
        if given is None:
            return None
        return {name: tuple(symbol.strip().upper() for symbol in members) for name, members in given.items()}

    replace = msgspec.structs.replace
    universe, own = settings.universe, settings.sector.universe
    return replace(
        settings,
        universe=replace(
            universe,
            spot_symbols=names(universe.spot_symbols),
            benchmark_symbol=universe.benchmark_symbol.strip().upper(),
            sectors=sectors(universe.sectors) or {},
            sector_symbols=sectors(universe.sector_symbols),
        ),
        sector=replace(
            settings.sector,
            universe=replace(
                own,
                benchmark_symbol=own.benchmark_symbol.strip().upper() if own.benchmark_symbol else None,
                sector_symbols=sectors(own.sector_symbols),
            ),
        ),
    )


def _read_file(file: Path) -> dict[str, Any]:
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(f"{file} does not exist: name an existing file or leave --config out") from None
    except OSError as exc:
        raise ConfigurationError(f"{file} cannot be read: {exc.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise ConfigurationError(f"{file} has {len(raw)} bytes: a configuration may have {MAX_BYTES} at most")
    try:
        text = raw.decode("utf-8")
        _check_shape(text)
        data = yaml.load(text, _StrictLoader)  # noqa: S506 - a safe loader, made stricter
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not UTF-8 text") from None
    except (OverflowError, ValueError):
        raise ConfigurationError(f"{file} holds a number or a date that is none of ordinary size") from None
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(exc, "problem", None) or "not valid YAML"
        raise ConfigurationError(f"{file}{where}: {problem}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigurationError(f"{file}: expected sections such as 'exchange:', found {type(data).__name__}")
    return data


_FastLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it: 20 times


def _check_shape(text: str) -> None:
    """Refuse aliases and deep nesting from the bare events, before anything is built from them."""
    depth = 0
    for event in yaml.parse(text, _FastLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        alias = isinstance(event, yaml.AliasEvent)
        if alias or depth > MAX_DEPTH:
            mark: Any = event.start_mark
            problem = "aliases are not allowed" if alias else "nested too deeply"
            raise yaml.constructor.ConstructorError(None, None, problem, mark)


class _StrictLoader(_FastLoader):  # type: ignore[misc]
    """Plain YAML only: no repeated keys, keys are text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                raise yaml.constructor.ConstructorError(None, None, "keys must be plain words", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def _environment(env: Mapping[str, str]) -> Iterator[tuple[str, str, Any]]:
    for name in sorted(env):
        if not name.startswith(PREFIX) or "__" not in name:
            continue
        parts = name[len(PREFIX) :].lower().split("__")
        yield name, ".".join(parts), _value(name, parts, env[name])


def _value(name: str, parts: list[str], text: str) -> Any:
    """Read a variable's text by the type that stands at its path; only the exact path decides."""
    kind: Any = Settings
    for part in parts:
        if not (isinstance(kind, type) and issubclass(kind, Section)):
            kind = None
            break
        hints = get_type_hints(kind)
        if part not in hints:
            raise ConfigurationError(f"{name}: there is no setting {'.'.join(parts)}")
        kind = hints[part]
    wanted = str(kind)
    if kind is str or ("str" in wanted and not any(word in wanted for word in ("tuple", "Mapping"))):
        return None if text == "" and "None" in wanted else text
    if "tuple" in wanted and "Mapping" not in wanted and not text.lstrip().startswith("["):
        return [word.strip() for word in text.split(",") if word.strip()]
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigurationError(f"{name}: the value cannot be read") from None


def _place(tree: dict[str, Any], name: str, dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    here = tree
    for part in parents:
        following = here.setdefault(part, {})
        if not isinstance(following, dict):
            raise ConfigurationError(f"{name}: {part} in the configuration file is not a section")
        here = following
    here[last] = value


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from _leaves(value, dotted + ".")
        else:
            yield dotted


_PATH = re.compile(r"^(?P<problem>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`")


def _explain(message: str) -> str:
    match = _PATH.match(message)
    problem, path = (match["problem"], match["path"] or "") if match else (message, "")
    unknown = _UNKNOWN.match(problem)
    if unknown:
        full = f"{path}.{unknown['field']}" if path else unknown["field"]
        return f"{full}: unknown key; `tapewatch check-config` lists the known ones"
    return f"{path or 'configuration'}: {problem[0].lower()}{problem[1:]}"
