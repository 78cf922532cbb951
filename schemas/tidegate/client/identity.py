"""Who a process is, as its telemetry says it: service and instance.

The host reporter and the terminator must name an instance alike: a decision lists the names that metrics
came under, and a service ends itself only by its own.
"""

import socket
from collections.abc import Mapping
from urllib.parse import unquote

import msgspec

from tidegate.schemas.conventions import INSTANCE
from tidegate.schemas.scope import NAME_CHARS_MAX

__all__ = ["Identity", "identity_of"]

ENV_SERVICE = "OTEL_SERVICE_NAME"
ENV_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"
_INSTANCE_ID, _HOST_NAME, _ = INSTANCE


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A service's instance."""

    namespace: str
    """Empty for none."""
    name: str
    instance_key: str
    """The attribute of the resource that names the instance."""
    instance_value: str

    @property
    def service(self) -> str:
        """The name it is judged by: `namespace/name`."""
        full = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return full[:NAME_CHARS_MAX]

    @property
    def instance(self) -> str:
        """The name that decisions list it by."""
        return self.instance_value[:NAME_CHARS_MAX]

    @property
    def attributes(self) -> dict[str, str]:
        """Of an OTLP resource."""
        found = {"service.name": self.name, self.instance_key: self.instance_value}
        return {"service.namespace": self.namespace, **found} if self.namespace else found


def identity_of(service: str, instance: str, environ: Mapping[str, str]) -> Identity:
    """What is given, else what OpenTelemetry's variables say (OTEL_SERVICE_NAME,
    OTEL_RESOURCE_ATTRIBUTES); an instance that nothing names is the host's name.

    service: as its spans have it, `namespace/name`. Raises ValueError without a service.
    """
    said = _attributes(environ.get(ENV_ATTRIBUTES, ""))
    if service:
        namespace, slash, name = service.partition("/")
        if not (namespace and slash and name):
            namespace, name = "", service
    else:
        namespace = said.get("service.namespace", "")
        name = environ.get(ENV_SERVICE) or said.get("service.name", "")
    if not name:
        raise ValueError(
            f"service: no name; give it as its spans have it (namespace/name), or set ${ENV_SERVICE}"
        )
    key, value = _INSTANCE_ID, instance
    if not value:
        key = next((key for key in INSTANCE if said.get(key)), _HOST_NAME)
        value = said.get(key) or socket.gethostname()
    return Identity(namespace=namespace, name=name, instance_key=key, instance_value=value)


def _attributes(text: str) -> dict[str, str]:
    """`key=value,key=value`, percent-encoded (OpenTelemetry's environment variables)."""
    pairs = (pair.partition("=") for pair in text.split(","))
    return {unquote(key.strip()): unquote(value.strip()) for key, _, value in pairs if value}
