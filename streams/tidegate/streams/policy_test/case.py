"""A case: what happens, and what is expected. Read by `reading.py`, run by `running.py`."""

from dataclasses import dataclass

from tidegate.schemas.control import ControlRecord
from tidegate.streams.policy_test.expect import Expectation
from tidegate.streams.policy_test.metric_series import MetricSeries
from tidegate.streams.policy_test.series import Series
from tidegate.streams.policy_test.traffic import Key

__all__ = ["Case"]


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a file. Times are ms from its start."""

    where: str
    """The file, as it was named."""
    line: int
    suite: str
    """Short name of the file."""
    name: str
    seed: int
    policy: bytes
    """`Policy.content` of the one in force."""
    policy_label: str
    traffic: tuple[tuple[Key, Series], ...]
    metrics: tuple[MetricSeries, ...]
    actions: tuple[tuple[int, ControlRecord], ...]
    """(when, what an operator asks), in order."""
    expectations: tuple[Expectation, ...]
    obeys: bool
    """Closed loop: clients obey what is decided, whatever the policy's mode."""

    @property
    def has_graph(self) -> bool:
        """Whether the graph stage matters: somebody obeys it, or asks for it. It takes as long as the rest."""
        kinds = ("inbound:", "graph:")
        asked = (getattr(record, "scope", "") for _, record in self.actions)
        expected = (one.text for one in self.expectations)
        return self.obeys or any(kind in text for text in (*asked, *expected) for kind in kinds)

    @property
    def title(self) -> str:
        """How reports call it."""
        return f"{self.suite}: {self.name}"

    @property
    def length_ms(self) -> int:
        """To the end of all series and expectations."""
        return max(
            *(series.length_ms for _, series in self.traffic),
            *(series.length_ms for series in self.metrics),
            *(at_ms for at_ms, _ in self.actions),
            *(expectation.last_ms for expectation in self.expectations),
            0,
            0,
        )
