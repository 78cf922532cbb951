"""Structured logs on stderr: JSON lines or a console's text. Kafka settings never reach a log whole, and
what looks like a secret is blotted out wherever it stands.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

__all__ = ["LOG_FORMATS", "configure_logs", "get_logger"]

LOG_FORMATS = ("console", "json")
_SECRET_KEY = re.compile(r"password|secret|token|credential|jaas|key\.pem|ssl\.key", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"((?:password|secret|token|jaas\.config|key\.pem)['\"]?\s*[=:]\s*)"
    r"(\"[^\"]*\"|'[^']*'|[^\s,;}]+)",
    re.IGNORECASE,
)
_BLOT = "***"
_OURS = "tidegate.worker"
"""Not `tidegate`: Faust logs for our subclasses under the names of their modules."""


def get_logger(stage: str) -> structlog.stdlib.BoundLogger:
    """A logger that names its stage in each line."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(_OURS).bind(stage=stage)
    return logger


def configure_logs(log_format: str, level: str = "info") -> None:
    """For the whole process: our own lines, and those of Faust and aiokafka from warnings on."""
    renderer: Any = (
        structlog.processors.JSONRenderer(sort_keys=True)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _hide_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _hide_secrets,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_OURS).setLevel(level.upper())


def _hide_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        event[key] = _BLOT if _SECRET_KEY.search(key) else _hidden(value)
    return event


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return _SECRET_TEXT.sub(lambda match: match[1] + _BLOT, value)
    if isinstance(value, dict):
        return {
            key: _BLOT if _SECRET_KEY.search(str(key)) else _hidden(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_hidden(item) for item in value]
    return value
