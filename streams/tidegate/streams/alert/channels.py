"""Every kind of channel. A new one is a function in a file of its own, a line here, rows in the test table."""

from tidegate.streams.alert.alertmanager import AlertmanagerSettings, alertmanager
from tidegate.streams.alert.channel import Kind
from tidegate.streams.alert.dingtalk import DingtalkSettings, dingtalk
from tidegate.streams.alert.pagerduty import PagerdutySettings, pagerduty
from tidegate.streams.alert.webhook import WebhookSettings, webhook
from tidegate.streams.alert.wecom import WecomSettings, wecom

__all__ = ["CHANNELS"]

CHANNELS: tuple[Kind, ...] = (
    Kind("alertmanager", AlertmanagerSettings, alertmanager, needs=("url",), is_told_singly=True),
    Kind("wecom", WecomSettings, wecom, needs=("key",)),
    Kind("dingtalk", DingtalkSettings, dingtalk, needs=("token",)),
    Kind("webhook", WebhookSettings, webhook, needs=("url",)),
    Kind("pagerduty", PagerdutySettings, pagerduty, needs=("routing_key",)),
)
