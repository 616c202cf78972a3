"""Who listens to the bot: built where the channels are, started by the streamer and by `tapewatch run`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared.alerts.channels.channel import Channel
from shared.jobs.deps import Dependencies

if TYPE_CHECKING:
    from shared.commands.receiver import Receiver


def receiver_for(deps: Dependencies, channels: Sequence[Channel]) -> Receiver | None:
    """Return the receiver of the Telegram channel's commands, None where nobody should listen."""
    wanted = deps.settings.alerts.telegram
    if not (wanted.enabled and wanted.commands):
        return None
    from shared.alerts.channels.telegram import TelegramChannel
    from shared.commands.receiver import Receiver

    channel = next((one for one in channels if isinstance(one, TelegramChannel)), None)
    if channel is None:
        return None
    return Receiver(channel, deps, frozenset(str(chat) for chat in wanted.allowed_chats))
