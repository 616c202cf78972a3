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
    from shared.alerts.wiring import telegram
    from shared.commands.receiver import Receiver
    from shared.secrets import read_secret

    channel = next((one for one in channels if isinstance(one, TelegramChannel)), None)
    if channel is None:  # on AWS the channel stands behind a queue; answers are sent from here all the same
        region = deps.settings.aws.region
        channel = telegram(
            deps.settings,
            deps.clock,
            deps.table,
            lambda name, setting: read_secret(name, setting, region=region),
            None,
        )
    return Receiver(channel, deps, frozenset(str(chat) for chat in wanted.allowed_chats))
