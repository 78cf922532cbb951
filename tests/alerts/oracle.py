"""What one rule says of one scope, boundary by boundary, in plain Python."""

from dataclasses import dataclass, field

__all__ = ["Said", "Standing"]

TIERS = ("none", "P2", "P1")


@dataclass(frozen=True)
class Said:
    event: str
    tier: str
    since: int
    number: int
    silenced: str | None


@dataclass
class Standing:
    """The alert of one scope and rule; all that is kept is what was said and asked since it began."""

    resolve_after: int
    repeat: int
    asked: list[int] = field(default_factory=list)
    """Tiers that the condition asked for, from the start's boundary on."""
    said: list[Said] = field(default_factory=list)
    said_at: int = -1
    is_escalated: bool = False

    def step(self, boundary: int, wanted: int, silenced: str | None) -> Said | None:
        if not self.said:
            if not wanted:
                return None
            self.asked = [wanted]
            return self._say("start", wanted, boundary, boundary, silenced)
        since, tier = self.said[0].since, TIERS.index(self.said[-1].tier)
        if wanted and self.is_escalated:
            wanted = 2
        self.asked.append(wanted)
        if not wanted:
            if self._stood_below(1):
                return self._end(boundary, silenced)
            return None
        if wanted > tier or (wanted < tier and self._stood_below(tier)):
            return self._say("change", wanted, since, boundary, silenced)
        was_silenced = self.said[-1].silenced is not None
        if was_silenced and not silenced:
            return self._say("repeat", tier, since, boundary, None)
        if boundary - self.said_at >= self.repeat:
            if tier == 1 and not silenced:
                self.is_escalated, tier = True, 2
            return self._say("repeat", tier, since, boundary, silenced)
        return None

    def end(self, boundary: int, silenced: str | None) -> Said | None:
        """The key ended."""
        return self._end(boundary, silenced) if self.said else None

    def _stood_below(self, tier: int) -> bool:
        """Whether less than this was asked for, now and for `resolve_after` before."""
        newest = self.asked[-self.resolve_after - 1 :]
        return len(newest) > self.resolve_after and max(newest) < tier

    def _end(self, boundary: int, silenced: str | None) -> Said:
        if any(said.silenced is None for said in self.said):
            silenced = None
        else:
            silenced = silenced or "silenced while it lasted"
        tier = TIERS.index(self.said[-1].tier)
        out = self._say("resolve", tier, self.said[0].since, boundary, silenced)
        self.said, self.is_escalated = [], False
        return out

    def _say(self, event: str, tier: int, since: int, boundary: int, silenced: str | None) -> Said:
        self.said.append(Said(event, TIERS[tier], since, len(self.said) + 1, silenced))
        self.said_at = boundary
        return self.said[-1]
