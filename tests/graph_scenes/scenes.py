"""The seven scenes: what happens in each, and what must come out of it under policy `default`.

Each has two and a half minutes of healthy traffic first: baselines are known after 60 to 90 s, and pairing
looks at one trace in 32. All are open loops: nobody obeys the decisions, as in mode `observe`.
"""

from dataclasses import dataclass
from functools import cache

from tests.goldens.incidents import BASE_MS
from tests.graph_scenes.exporting import Grouping, Record, export
from tests.graph_scenes.simulation import SimulatedSpan, run
from tests.graph_scenes.world import (
    MESH,
    Call,
    Database,
    Fault,
    Flow,
    Operation,
    Service,
    World,
)

__all__ = ["SCENES", "Scene", "scene_named"]


@dataclass(frozen=True, slots=True)
class Scene:
    """A world and what is to be said of it."""

    name: str
    about: str
    world: World
    entries: tuple[str, ...]
    """Services that get requests from outside."""
    expected_roots: tuple[str, ...]
    """Who must rank first in the graph of the first entry while the fault lasts; of several, all before anyone
    else, in any order."""
    healthy: frozenset[str]
    """Scopes that must never be above `degraded_1` nor be given a `reject`."""
    inherits: frozenset[str] = frozenset()
    """Scopes that fail or are slow only because of what lies deeper: never a root cause, never a `reject`."""
    is_graph_bad: bool = True
    """Whether the graph of the first entry must leave `closed`."""
    expects_l4: str = ""
    """The service whose dependencies make a cascade; "" where there is none, and no `reject` at all."""
    loops: frozenset[tuple[str, ...]] = frozenset()
    """Ways in which requests really go round, from the service at which they do."""
    grouping: Grouping = "resource"

    @property
    def fault_ms(self) -> tuple[int, int]:
        """When the first fault begins and the last one ends, ms since the Unix epoch."""
        faults = self.world.faults
        start_s, end_s = min(f.start_s for f in faults), max(f.end_s for f in faults)
        return BASE_MS + int(start_s * 1000), BASE_MS + int(end_s * 1000)

    def spans(self) -> tuple[SimulatedSpan, ...]:
        """What happened, lost spans too."""
        return _spans(self.name)

    def records(self, grouping: Grouping | None = None) -> tuple[Record, ...]:
        """In the order of Kafka times; grouped as the scene says, or otherwise."""
        return _records(self.name, grouping or self.grouping)


@cache
def _spans(name: str) -> tuple[SimulatedSpan, ...]:
    return tuple(run(scene_named(name).world))


@cache
def _records(name: str, grouping: Grouping) -> tuple[Record, ...]:
    return tuple(export(scene_named(name).world, _spans(name), grouping))


def scene_named(name: str) -> Scene:
    """One of the table. KeyError for a name that isn't there."""
    return {scene.name: scene for scene in SCENES}[name]


def _one(name: str, own_ms: tuple[float, float], *calls: Call) -> Service:
    """A service with one operation, of its own name."""
    return Service({name: Operation(own_ms, calls)})


_CHAIN = World(
    seed=61,
    seconds=290,
    naming="address",
    services={
        "web": _one("web", (2, 6), Call("a.a", timeout_ms=5_000)),
        "a": _one("a", (2, 6), Call("b.b", timeout_ms=4_000)),
        "b": _one("b", (2, 6), Call("c.c", timeout_ms=3_000)),
        "c": _one("c", (2, 6), Call("d.d", timeout_ms=1_000)),
        "d": _one("d", (3, 12)),
    },
    flows=(Flow("web.web", 12),),
    faults=(Fault("dead", "d", 150, 215, share=0.0),),
)

_DIAMOND = World(
    seed=62,
    seconds=280,
    services={
        "web": Service(
            {
                "page": Operation(
                    (3, 8),
                    (
                        Call("left.get", timeout_ms=1_500),
                        Call("right.get", timeout_ms=300, is_hard=False),
                    ),
                    is_parallel=True,
                )
            }
        ),
        "left": Service({"get": Operation((4, 12), (Call("store.read", timeout_ms=1_000),))}),
        "right": Service({"get": Operation((2, 6), (Call("store.read", timeout_ms=250),))}),
        "store": Service({"read": Operation((2, 9))}),
    },
    flows=(Flow("web.page", 15),),
    faults=(Fault("dead", "right", 150, 210, share=1.0),),
)

_CASCADE = World(
    seed=63,
    seconds=350,
    naming="address",
    services={
        "web": _one("web", (2, 6), Call("checkout.buy", timeout_ms=4_000)),
        "checkout": Service(
            {
                "buy": Operation(
                    (3, 8),
                    tuple(Call(f"{name}.run", timeout_ms=800) for name in ("pay", "stock", "ship")),
                    is_parallel=True,
                )
            }
        ),
        "pay": Service({"run": Operation((8, 25))}),
        "stock": Service({"run": Operation((4, 14))}),
        "ship": Service({"run": Operation((5, 15))}),
        "admin": _one("admin", (2, 6), Call("catalog.list", timeout_ms=1_000)),
        "catalog": Service({"list": Operation((3, 12))}),
    },
    flows=(Flow("web.web", 12), Flow("admin.admin", 4)),
    faults=(
        Fault("slow", "pay", 150, 205, factor=150),
        Fault("dead", "stock", 150, 205, share=0.0),
        Fault("slow", "ship", 150, 205, factor=250),
    ),
)

_RETRY_STORM = World(
    seed=64,
    seconds=300,
    services={
        "web": _one("web", (2, 6), Call("api.find", timeout_ms=1_500, attempts_max=2)),
        "api": Service(
            {
                "find": Operation(
                    (3, 9),
                    (
                        Call("search.query", timeout_ms=400, attempts_max=4, backoff_ms=40),
                        Call("suggest.words", timeout_ms=200, share=0.3, is_hard=False),
                    ),
                )
            }
        ),
        "search": Service({"query": Operation((15, 35))}, workers=4, queue_max=30),
        "suggest": Service({"words": Operation((2, 7))}),
    },
    flows=(Flow("web.web", 20),),
    faults=(
        Fault("slow", "search", 150, 210, factor=9),
        Fault("error", "search", 150, 210, share=0.15),
    ),
)

_CYCLE = World(
    seed=65,
    seconds=290,
    services={
        "web": Service(
            {
                "buy": Operation((2, 6), (Call("orders.place", timeout_ms=1_000),)),
                "people": Operation((2, 6), (Call("users.list", timeout_ms=1_000),)),
                "teams": Operation((2, 6), (Call("groups.list", timeout_ms=1_000),)),
            }
        ),
        "orders": Service(
            {
                "place": Operation(
                    (4, 10), (Call("stock.reserve", timeout_ms=2_000, attempts_max=2),)
                ),
                "confirm": Operation((2, 5)),
            }
        ),
        "stock": Service(
            {"reserve": Operation((4, 12), (Call("orders.confirm", timeout_ms=500, share=0.3),))}
        ),
        "users": Service(
            {
                "list": Operation((3, 8), (Call("groups.of_user", timeout_ms=600),)),
                "of_group": Operation((2, 6)),
            }
        ),
        "groups": Service(
            {
                "list": Operation((3, 8), (Call("users.of_group", timeout_ms=600),)),
                "of_user": Operation((2, 6)),
            }
        ),
    },
    flows=(Flow("web.buy", 10), Flow("web.people", 4), Flow("web.teams", 4)),
    faults=(
        Fault("slow", "stock", 150, 205, factor=250),
        Fault("error", "stock", 150, 205, share=0.3),
    ),
)

_MESH = World(
    seed=66,
    seconds=280,
    naming="peer",
    behind_mesh=frozenset({"catalog", "cart", "price"}),
    network_us=(800, 2_400),
    services={
        "web": Service(
            {
                "page": Operation(
                    (3, 9),
                    (Call("catalog.list"), Call("price.of", timeout_ms=800)),
                    is_parallel=True,
                ),
                "basket": Operation((2, 7), (Call("cart.get"),)),
            }
        ),
        "catalog": Service({"list": Operation((4, 15))}),
        "cart": Service({"get": Operation((3, 11))}),
        "price": Service({"of": Operation((3, 10))}),
    },
    flows=(Flow("web.page", 10), Flow("web.basket", 10)),
    faults=(Fault("error", "price", 150, 205, share=0.9),),
)

_DATABASE = World(
    seed=67,
    seconds=280,
    databases={"inventory-db": Database("postgresql", "inventory", (3, 11))},
    services={
        "web": Service(
            {
                "page": Operation((2, 6), (Call("catalog.list", timeout_ms=4_000),)),
                "basket": Operation((2, 6), (Call("cart.get", timeout_ms=4_000),)),
                "ad": Operation((2, 6), (Call("ads.pick", timeout_ms=500),)),
            }
        ),
        "catalog": Service({"list": Operation((4, 12), (Call("inventory-db", timeout_ms=2_000),))}),
        "cart": Service({"get": Operation((3, 9), (Call("inventory-db", timeout_ms=2_000),))}),
        "ads": Service({"pick": Operation((2, 8))}),
    },
    flows=(Flow("web.page", 10), Flow("web.basket", 8), Flow("web.ad", 4)),
    faults=(Fault("slow", "inventory-db", 150, 210, factor=110),),
)


def _scopes(services: str, edges: str = "", graphs: str = "") -> frozenset[str]:
    """Services with their inbound scopes (not of those marked `!`), edges as `a>b`, entries."""
    out = {f"service:{name.rstrip('!')}" for name in services.split()}
    out |= {f"inbound:{name}" for name in services.split() if not name.endswith("!")}
    out |= {"edge:" + "->".join(edge.split(">")) for edge in edges.split()}
    return frozenset(out | {f"graph:{name}" for name in graphs.split()})


SCENES: tuple[Scene, ...] = (
    Scene(
        "chain",
        "web -> a -> b -> c -> d. At 150 s d dies and sends nothing more: c's calls time out after 1 s, and "
        "the failure goes up the chain. Back at 215 s.",
        _CHAIN,
        entries=("web",),
        expected_roots=("d",),
        healthy=_scopes("web! a b c"),
        inherits=_scopes("web! a b c", "web>a a>b b>c"),
    ),
    Scene(
        "diamond",
        "web asks left and right, both ask store. web does without right, which dies at 150 s (connections "
        "are refused) and is back at 210 s.",
        _DIAMOND,
        entries=("web",),
        expected_roots=("right",),
        healthy=_scopes("web! left store", "web>left left>store right>store", "web"),
        is_graph_bad=False,
    ),
    Scene(
        "cascade",
        "checkout needs pay, stock and ship, all at once. From 150 to 205 s pay and ship answer after 1 s and "
        "more (checkout waits 0.8 s; they go on for nobody) and stock is dead. admin and catalog have nothing "
        "to do with it.",
        _CASCADE,
        entries=("web", "admin"),
        expected_roots=("pay", "stock", "ship"),
        healthy=_scopes("admin! catalog", "admin>catalog", "admin"),
        inherits=_scopes("web!", "web>checkout"),
        expects_l4="checkout",
    ),
    Scene(
        "retry_storm",
        "search has four workers. From 150 to 210 s its work takes nine times as long and 15 % of it fails; "
        "api tries up to four times, web twice, and each attempt that was given up is still worked on.",
        _RETRY_STORM,
        entries=("web",),
        expected_roots=("search",),
        healthy=_scopes("web! api suggest", "api>suggest"),
        inherits=_scopes("web! api", "web>api"),
    ),
    Scene(
        "cycle",
        "orders asks stock, which asks orders again for 30 % of the requests: they go round. users and groups "
        "ask each other too, but no request goes round there. From 150 to 205 s stock is slow and fails "
        "partly; web waits 1 s for orders, orders 2 s for stock, twice.",
        _CYCLE,
        entries=("web",),
        expected_roots=("stock",),
        healthy=_scopes(
            "web! users groups orders",
            "web>users web>groups users>groups groups>users stock>orders",
        ),
        inherits=_scopes("web! orders", "web>orders"),
        loops=frozenset({("orders", "stock", "orders")}),
    ),
    Scene(
        "mesh",
        f"web calls catalog, cart and price through {MESH}. From 150 to 205 s nine in ten of price's answers "
        "are errors.",
        _MESH,
        entries=("web",),
        expected_roots=("price",),
        healthy=_scopes("web! catalog cart"),
        inherits=_scopes("web!"),
        grouping="collector",
    ),
    Scene(
        "database",
        "catalog and cart ask the database postgresql/inventory, which sends no spans. From 150 to 210 s it "
        "takes 0.3 to 1.2 s instead of 3 to 11 ms; nothing fails.",
        _DATABASE,
        entries=("web",),
        expected_roots=("postgresql/inventory",),
        healthy=_scopes("web! catalog cart ads", "web>ads"),
        inherits=_scopes("web! catalog cart", "web>catalog web>cart"),
    ),
)
