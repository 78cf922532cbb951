"""Deterministic OTLP trace generator: 40 services, call depth <= 8, client/server pairs.

Simulates what a gateway collector writes to Kafka: every service instance's SDK
exports a batch each second (random phase); the gateway concatenates these
ResourceSpans until >= SPANS_PER_MSG spans and emits one ExportTraceServiceRequest.
Output: a file of [u32 big-endian length][protobuf bytes] records + a JSON summary.

usage: gen_otlp.py OUT.lenpb --spans 2000000 --seed 7 --rate 20000 [--start-ns NS]
"""

# The input that figures are measured on, kept as it was made: not this project's style.
# (ruff leaves this file alone: pyproject.toml)
# mypy: ignore-errors
import argparse, heapq, json, random, struct, collections
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, ResourceSpans, Status

INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = 1, 2, 3, 4, 5
T0 = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z


def topology(rng, n=40, depth=8):
    """services on `depth` levels; edges go from level k to k+1 (a few skip one)."""
    sizes = [2, 4, 6, 7, 7, 6, 5, 3]
    assert sum(sizes) == n and len(sizes) == depth
    names, level = [], []
    for lv, s in enumerate(sizes):
        for i in range(s):
            names.append(
                ["gateway", "bff", "edge-api", "order", "cart", "catalog", "price", "stock"][lv]
                + f"-{i}"
            )
            level.append(lv)
    by = collections.defaultdict(list)
    for i, lv in enumerate(level):
        by[lv].append(i)
    calls = {}
    for i, lv in enumerate(level):
        out = []
        if lv + 1 < depth:
            nxt = list(by[lv + 1])
            if lv + 2 < depth:
                nxt += rng.sample(by[lv + 2], 1)
            k = min(len(nxt), rng.choice([2, 2, 3, 3, 4]))
            for j in rng.sample(nxt, k):
                out.append(
                    (
                        j,
                        rng.choices(["http", "grpc", "msg"], [55, 38, 7])[0],
                        rng.uniform(0.25, 0.75),
                        rng.randrange(1, 5),
                    )
                )
        db = rng.random() < (0.25 + 0.1 * lv)
        dbk = (
            rng.choice(
                [
                    ("postgresql", "SELECT"),
                    ("mysql", "UPDATE"),
                    ("redis", "GET"),
                    ("mongodb", "find"),
                ]
            )
            if db
            else None
        )
        calls[i] = (out, dbk, rng.uniform(0.6, 6.0), rng.choice([0.0005, 0.001, 0.002, 0.01]))
    return names, level, calls


def kv_s(dst, k, v):
    a = dst.add()
    a.key = k
    a.value.string_value = v


def kv_i(dst, k, v):
    a = dst.add()
    a.key = k
    a.value.int_value = v


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("out")
    ap.add_argument("--spans", type=int, default=2_000_000)
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--rate", type=int, default=20_000)
    ap.add_argument("--start-ns", type=int, default=T0)
    ap.add_argument("--per-msg", type=int, default=1000)
    ap.add_argument("--instances", type=int, default=3)
    a = ap.parse_args()
    rng = random.Random(a.seed)
    names, level, calls = topology(rng)
    ns = len(names)
    res = {}
    for s in range(ns):
        for i in range(a.instances):
            r = ResourceSpans()
            at = r.resource.attributes
            kv_s(at, "service.name", names[s])
            kv_s(at, "service.namespace", "shop")
            kv_s(at, "service.version", f"1.{s % 7}.{i}")
            kv_s(at, "service.instance.id", f"{names[s]}-{rng.getrandbits(40):010x}")
            kv_s(at, "deployment.environment.name", "prod")
            kv_s(at, "telemetry.sdk.name", "opentelemetry")
            kv_s(at, "telemetry.sdk.language", ["java", "go", "python", "nodejs"][s % 4])
            kv_s(at, "telemetry.sdk.version", "1.39.0")
            kv_s(at, "host.name", f"node-{(s * a.instances + i) % 12:02d}.cluster.local")
            kv_s(at, "k8s.pod.name", f"{names[s]}-7c9f{rng.getrandbits(24):06x}-{i}")
            kv_s(at, "k8s.namespace.name", "shop")
            kv_s(at, "cloud.region", "eu-west-1")
            res[s, i] = r
    scope = {
        "http": ("io.opentelemetry.http-client", "2.10.0"),
        "srv": ("io.opentelemetry.server", "2.10.0"),
    }
    stat = collections.Counter()
    edges = collections.Counter()
    total = 0
    buf = collections.defaultdict(list)  # (svc, inst) -> spans
    flush = [(a.start_ns + int(rng.random() * 1e9) + 1_000_000_000, k) for k in sorted(res)]
    heapq.heapify(flush)
    pend = []
    seq = 0  # heap of (end, seq, key, span)
    gid = lambda n: rng.getrandbits(8 * n).to_bytes(n, "big")
    avg = 30.0
    out = open(a.out, "wb")
    msg = ExportTraceServiceRequest()
    in_msg = 0
    nmsg = 0
    nbytes = 0
    maxmsg = 0

    def emit():
        nonlocal msg, in_msg, nmsg, nbytes, maxmsg
        if in_msg:
            b = msg.SerializeToString()
            out.write(struct.pack(">I", len(b)))
            out.write(b)
            nmsg += 1
            nbytes += len(b)
            maxmsg = max(maxmsg, len(b))
        msg = ExportTraceServiceRequest()
        in_msg = 0

    def advance(now):
        nonlocal in_msg
        while pend and pend[0][0] <= now:
            # flush timers that come before this span's end
            while flush[0][0] <= pend[0][0]:
                do_flush()
            _, _, key, sp = heapq.heappop(pend)
            buf[key].append(sp)
        while flush[0][0] <= now:
            do_flush()

    def do_flush():
        nonlocal in_msg
        t, key = heapq.heappop(flush)
        heapq.heappush(flush, (t + 1_000_000_000, key))
        spans = buf[key]
        while spans:
            take, spans = spans[:512], spans[512:]
            if in_msg + len(take) > a.per_msg and in_msg:
                room = a.per_msg - in_msg
                head, take2 = take[:room], take[room:]
                if head:
                    put(key, head)
                emit()
                if take2:
                    put(key, take2)
            else:
                put(key, take)
            if in_msg >= a.per_msg:
                emit()
        buf[key] = []

    def put(key, spans):
        nonlocal in_msg
        rs = msg.resource_spans.add()
        rs.CopyFrom(res[key])
        rs.schema_url = "https://opentelemetry.io/schemas/1.37.0"
        cl = [s for s in spans if s.kind in (CLIENT, PRODUCER)]
        sv = [s for s in spans if s.kind not in (CLIENT, PRODUCER)]
        for nm, ss in (("http", cl), ("srv", sv)):
            if ss:
                sc = rs.scope_spans.add()
                sc.scope.name, sc.scope.version = scope[nm]
                sc.spans.extend(ss)
        in_msg += len(spans)

    def new_span(key, tid, parent, name, kind, start, end, err, flags=0x101):
        nonlocal seq, total
        sp = Span()
        sp.trace_id = tid
        sp.span_id = gid(8)
        if parent:
            sp.parent_span_id = parent
        sp.name = name
        sp.kind = kind
        sp.start_time_unix_nano = start
        sp.end_time_unix_nano = end
        sp.flags = flags
        if err:
            sp.status.code = 2
        seq += 1
        total += 1
        stat[kind] += 1
        heapq.heappush(pend, (end, seq, key, sp))
        return sp

    def call(tid, parent, s, inst, kind, op, start, dep):
        """server side of s; returns (end, err, span)"""
        outs, dbk, base, perr = calls[s]
        t = start + int(rng.lognormvariate(0, 0.6) * base * 4e5)
        key = (s, inst)
        children = []
        srv_id = gid(8)
        err = rng.random() < perr
        if rng.random() < 0.12:
            e = t + int(rng.lognormvariate(0, 0.5) * 3e5)
            sp = new_span(key, tid, srv_id, f"{names[s]}.validate", INTERNAL, t, e, False)
            kv_s(sp.attributes, "code.function.name", f"com.shop.{names[s]}.Validator.validate")
            kv_s(sp.attributes, "thread.name", "worker-4")
            t = e
        for j, proto, p, nops in outs:
            if rng.random() >= p:
                continue
            ci = rng.randrange(a.instances)
            o = rng.randrange(nops)
            ts = t + int(rng.random() * 2e5)
            cid = gid(8)
            net = int(rng.lognormvariate(0, 0.4) * 2.5e5)
            if proto == "msg":
                ce = ts + net
                sp = new_span(
                    key, tid, srv_id, f"publish {names[j]}-events", PRODUCER, ts, ce, False
                )
                sp.span_id = cid
                A = sp.attributes
                kv_s(A, "messaging.system", "kafka")
                kv_s(A, "messaging.destination.name", f"{names[j]}-events")
                kv_s(A, "messaging.operation.type", "publish")
                kv_i(A, "messaging.kafka.message.offset", rng.getrandbits(24))
                call(tid, cid, j, ci, CONSUMER, o, ce + int(rng.random() * 5e6), dep + 1)
                edges[names[s], names[j]] += 1
                t = ce
                continue
            se, serr, sst = call(
                tid, cid, j, ci, SERVER if proto == "http" else "grpc", o, ts + net, dep + 1
            )
            ce = se + net
            if proto == "http":
                sp = new_span(
                    key, tid, srv_id, "GET" if o % 2 == 0 else "POST", CLIENT, ts, ce, serr
                )
                A = sp.attributes
                kv_s(A, "http.request.method", "GET" if o % 2 == 0 else "POST")
                kv_s(
                    A,
                    "url.full",
                    f"http://{names[j]}.shop.svc:8080/api/v1/{names[j]}/{rng.randrange(10**6)}",
                )
                kv_s(A, "server.address", f"{names[j]}.shop.svc")
                kv_i(A, "server.port", 8080)
                kv_i(A, "http.response.status_code", 500 if serr else 200)
                kv_s(A, "network.protocol.version", "1.1")
                if serr:
                    kv_s(A, "error.type", "500")
            else:
                m = f"{names[j].replace('-', '.')}.Service/Op{o}"
                sp = new_span(key, tid, srv_id, m, CLIENT, ts, ce, serr)
                A = sp.attributes
                kv_s(A, "rpc.system", "grpc")
                kv_s(A, "rpc.service", m.split("/")[0])
                kv_s(A, "rpc.method", f"Op{o}")
                kv_i(A, "rpc.grpc.status_code", 13 if serr else 0)
                kv_s(A, "server.address", f"{names[j]}.shop.svc")
                kv_i(A, "server.port", 9090)
                kv_s(A, "network.peer.address", f"10.42.{j}.{ci + 10}")
            sp.span_id = cid
            edges[names[s], names[j]] += 1
            err = err or (serr and rng.random() < 0.8)
            t = ce
        if dbk and rng.random() < 0.8:
            sysname, op_ = dbk
            e = t + int(rng.lognormvariate(0, 0.7) * 8e5)
            derr = rng.random() < 0.0004
            sp = new_span(key, tid, srv_id, f"{op_} {names[s]}_db", CLIENT, t, e, derr)
            A = sp.attributes
            if s % 2 == 0:
                kv_s(A, "db.system.name", sysname)
                kv_s(A, "db.namespace", f"{names[s]}_db")
                kv_s(A, "db.operation.name", op_)
            else:
                kv_s(A, "db.system", sysname)
                kv_s(A, "db.name", f"{names[s]}_db")
                kv_s(A, "db.operation", op_)
            kv_s(A, "db.query.text", f"{op_} * FROM {names[s]}_item WHERE id = ?")
            kv_s(A, "server.address", f"{sysname}-{s % 5}.data.svc")
            kv_i(A, "server.port", 5432)
            edges[names[s], f"{names[s]}_db"] += 1
            err = err or derr
            t = e
        end = t + int(rng.lognormvariate(0, 0.6) * base * 3e5)
        if kind == "grpc":
            m = f"{names[s].replace('-', '.')}.Service/Op{op}"
            sp = new_span(key, tid, parent, m, SERVER, start, end, err, 0x301)
            A = sp.attributes
            kv_s(A, "rpc.system", "grpc")
            kv_s(A, "rpc.service", m.split("/")[0])
            kv_s(A, "rpc.method", f"Op{op}")
            kv_i(A, "rpc.grpc.status_code", 13 if err else 0)
            kv_s(A, "network.peer.address", f"10.42.{dep}.{inst + 20}")
            kv_i(A, "network.peer.port", rng.randrange(30000, 60000))
            kv_s(A, "network.type", "ipv4")
        elif kind == CONSUMER:
            sp = new_span(
                key, tid, parent, f"process {names[s]}-events", CONSUMER, start, end, err, 0x301
            )
            A = sp.attributes
            kv_s(A, "messaging.system", "kafka")
            kv_s(A, "messaging.destination.name", f"{names[s]}-events")
            kv_s(A, "messaging.operation.type", "process")
            kv_s(A, "messaging.consumer.group.name", names[s])
        else:
            route = f"/api/v1/{names[s]}/{{id}}" if op % 2 == 0 else f"/api/v1/{names[s]}/op{op}"
            meth = "GET" if op % 2 == 0 else "POST"
            sp = new_span(
                key,
                tid,
                parent,
                f"{meth} {route}",
                SERVER,
                start,
                end,
                err,
                0x301 if parent else 0x101,
            )
            A = sp.attributes
            kv_s(A, "http.request.method", meth)
            kv_s(A, "http.route", route)
            kv_s(A, "url.path", route.replace("{id}", str(rng.randrange(10**6))))
            kv_s(A, "url.scheme", "http")
            kv_i(A, "http.response.status_code", 500 if err else 200)
            kv_s(A, "server.address", f"{names[s]}.shop.svc")
            kv_s(A, "client.address", f"10.42.{dep}.{inst + 20}")
            kv_s(A, "user_agent.original", "okhttp/4.12.0")
            kv_s(A, "network.protocol.version", "1.1")
            if err:
                kv_s(A, "error.type", "500")
        sp.span_id = srv_id
        return end, err, sp

    now = float(a.start_ns)
    ntr = 0
    while total < a.spans:
        now += rng.expovariate(a.rate / max(avg, 1.0)) * 1e9
        before = total
        call(
            gid(16),
            b"",
            rng.randrange(2),
            rng.randrange(a.instances),
            SERVER,
            rng.randrange(4),
            int(now),
            0,
        )
        ntr += 1
        avg += 0.01 * ((total - before) - avg)
        advance(int(now) - 2_000_000_000)
    end = int(now) + 3_000_000_000
    advance(end)
    emit()
    out.close()
    rep = dict(
        seed=a.seed,
        spans=total,
        traces=ntr,
        messages=nmsg,
        bytes=nbytes,
        bytes_per_span=round(nbytes / total, 1),
        max_message_bytes=maxmsg,
        spans_per_trace=round(total / ntr, 2),
        kinds={str(k): v for k, v in sorted(stat.items())},
        services=ns,
        distinct_edges=len(edges),
        edge_calls=sum(edges.values()),
        event_seconds=round((now - a.start_ns) / 1e9, 1),
    )
    json.dump(rep, open(a.out + ".json", "w"), indent=1)
    print(json.dumps(rep))


if __name__ == "__main__":
    main()
