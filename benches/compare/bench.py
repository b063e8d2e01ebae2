#!/usr/bin/env python3
"""bench.py: side-by-side benchmark of WebSocket servers on one small, noisy Linux machine.

    ./setup.sh                                                      # once
    ./bench.py --peer mio-min --peer raw --scenario echo32
    ./bench.py --peer mio-min --scenario all --reps 5 --out results.jsonl
    ./bench.py --peer mio-min --scenario echo32,pipe32 --syscalls
    ./bench.py --peer mio-min --scenario pipe32 --instr
    ./bench.py --list

THE SERVER UNDER TEST is examples/ws_echo_server as `cargo build --release --examples` left it, or --ours with any
command line that starts a WebSocket server on 127.0.0.1:{port}; --ours "" leaves it out.
{mode} is one of
    echo        send every text/binary message back to its sender
    broadcast   send every message to all open connections, the sender included
    deflate     echo, with permessage-deflate accepted (no context takeover, both ways)
A command without {mode} serves every mode: the loader asks for the path /echo, /broadcast or /deflate.
Peers are named in peers.json beside this file (or --peers FILE):
    {"mine": {"cmd": "{here}/path/server {port} {mode}", "instr_cmd": "(optional) another build for --instr",
     "modes": ["echo", "broadcast", "deflate"], "loader": "--raw", "reps": 3}}

WHAT IT DOES. For each scenario, --reps times: for each server in turn (A B A B .., the order turned
round every other repetition): start it pinned to CPU 0, run loadgen pinned to CPU 1, stop it by its pid.
Each run has --warmup and --secs seconds. It waits a while for a quiet machine first, and repeats a run
during which other processes used more than --noise CPUs (at most --retries times; the quietest is kept).

WHAT IT PRINTS. Medians, with (min..max) over the repetitions:
    rate      messages (echoes, or deliveries in broadcasts) per second
    cpu       server CPU time per message: /proc/PID/task/*/schedstat, so exact, all threads, user + kernel.
              This is the verdict on a noisy machine. The kernel's part of it hardly differs between servers
              that make the same syscalls, so also see --instr (user instructions per message) and --syscalls.
    usr       the user-mode part of cpu (utime's share; 10 ms ticks, so coarse)
    p50..p999 latency in microseconds (one message in flight per connection only)
    S / L     how busy the server / the loader was (1.00 = one whole CPU). L near 1.00 means that the loader was
              the bottleneck: then `rate` says nothing, `cpu` still does.
    oth       CPUs' worth of other processes meanwhile (noise)
    x PEER    ratio to the first peer: rate (bigger is better) and cpu (smaller is better), with the range
              over the paired repetitions.
--syscalls  counts the server's syscalls per message (perf stat on the syscalls' tracepoints while the load runs;
            counting only, so it hardly disturbs; needs root and tracefs).
--instr     user instructions per message: valgrind --tool=callgrind, two runs of different length subtracted. valgrind
            knows no AVX-512: a server built for the CPU it was built on needs a second build (--ours-instr, instr_cmd).

Everything stays on loopback, every loop is bounded in count and time, and only processes that this script
started are ended, by pid.
"""

import argparse
import json
import os
import re
import resource
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LOADGEN = os.path.join(HERE, "loadgen/target/release/loadgen")
OURS = "{here}/../../target/release/examples/ws_echo_server --port {port} --mode {mode} --max-message 67108864"
TMP = os.environ.get("BENCH_TMP") or os.path.join(tempfile.gettempdir(), "ws-bench-%d" % os.getuid())

# name: (mode, loadgen arguments, messages for --instr's short run)
SCENARIOS = {}
for sz, nm in ((32, "32"), (1024, "1k"), (16384, "16k")):
    for n in (1, 100, 1000):
        SCENARIOS["echo%s-%d" % (nm, n)] = (
            "echo",
            "--scenario echo --conns %d --inflight 1 --size %d" % (n, sz),
            10000,
        )
SCENARIOS["pipe32"] = ("echo", "--scenario echo --conns 50 --inflight 64 --size 32", 60000)
SCENARIOS["pipe1k"] = ("echo", "--scenario echo --conns 50 --inflight 64 --size 1024", 60000)
SCENARIOS["text1k"] = ("echo", "--scenario echo --conns 50 --inflight 64 --size 1024 --payload ascii", 60000)
SCENARIOS["utf8-1k"] = ("echo", "--scenario echo --conns 50 --inflight 64 --size 1024 --payload utf8", 60000)
SCENARIOS["big1"] = ("echo", "--scenario echo --conns 1 --inflight 1 --size 1048576", 100)
SCENARIOS["big8"] = ("echo", "--scenario echo --conns 8 --inflight 1 --size 1048576", 100)
SCENARIOS["bcast500"] = ("broadcast", "--scenario broadcast --conns 500 --size 64 --payload ascii --window 1", 20000)
SCENARIOS["bcast2000"] = ("broadcast", "--scenario broadcast --conns 2000 --size 64 --payload ascii --window 1", 40000)
SCENARIOS["bcast500w32"] = (
    "broadcast",
    "--scenario broadcast --conns 500 --size 64 --payload ascii --window 32",
    200000,
)
SCENARIOS["chat100"] = ("broadcast", "--scenario chat --conns 100 --size 64 --payload ascii", 200000)
SCENARIOS["deflate1k"] = (
    "deflate",
    "--scenario echo --conns 50 --inflight 64 --size 1024 --payload json --deflate",
    10000,
)
SCENARIOS["idle10k"] = ("echo", "--scenario idle --conns 9900 --size 1024 --conc 64", 0)
SETS = {
    "echo32": ["echo32-100"],
    "echo1k": ["echo1k-100"],
    "echo16k": ["echo16k-100"],
    "echo": [s for s in SCENARIOS if s.startswith("echo")],
    "pipe": ["pipe32", "pipe1k", "text1k", "utf8-1k"],
    "big": ["big1", "big8"],
    "bcast": ["bcast500", "bcast2000", "bcast500w32", "chat100"],
    "quick": ["echo32-1", "echo32-100", "pipe32", "pipe1k", "big1", "bcast500", "chat100"],
    "all": list(SCENARIOS),
}
SYSCALLS = (
    "epoll_wait epoll_pwait epoll_ctl recvfrom recvmsg read readv sendto sendmsg write writev "
    "futex accept4 close setsockopt getsockopt mmap munmap madvise brk clock_gettime getpid"
).split()


def system_busy():
    f = list(map(int, open("/proc/stat").readline().split()[1:]))
    return f[0] + f[1] + f[2] + f[5] + f[6] + f[7]


def quiet(limit, longest):
    """Waits until other processes use less than `limit` CPUs, at most `longest` seconds."""
    end = time.time() + longest
    while True:
        b, t = system_busy(), time.time()
        time.sleep(0.25)
        if (system_busy() - b) / 100.0 / (time.time() - t) <= limit or time.time() > end:
            return


def free_port():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    p = s.getsockname()[1]
    s.close()
    return p


def pinned(cpu):
    def f():
        os.sched_setaffinity(0, {cpu})

    return f


class Server:
    def __init__(self, cmd, mode, prefix=(), patience=15):
        self.port = free_port()
        argv = list(prefix) + shlex.split(
            cmd.replace("{port}", str(self.port)).replace("{mode}", mode).replace("{here}", HERE)
        )
        self.err = open(os.path.join(TMP, "server.err"), "w+")
        self.p = subprocess.Popen(
            argv, stdout=self.err, stderr=self.err, stdin=subprocess.DEVNULL, preexec_fn=pinned(CPUS[0])
        )
        end = time.time() + patience
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                if self.p.poll() is not None or time.time() > end:
                    self.stop()
                    self.err.seek(0)
                    raise RuntimeError("server did not start: %s\n%s" % (argv, self.err.read()[-2000:]))
                time.sleep(0.02)
        time.sleep(0.15)

    def stop(self, sig=signal.SIGTERM):
        if self.p.poll() is None:
            self.p.send_signal(sig)
            try:
                self.p.wait(20)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait()


def load(port, pid, args, timeout):
    argv = [LOADGEN, "--port", str(port), "--pid", str(pid), "--limit", str(timeout - 5)] + shlex.split(args)
    r = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=pinned(CPUS[1]), timeout=timeout
    )
    if r.returncode:
        raise RuntimeError("loadgen: " + r.stderr.decode().strip()[-500:])
    return json.loads(r.stdout)


def one(srv, sc, a):
    """One run of one server: the loader's numbers, or {"error": ..}."""
    mode, args, _ = SCENARIOS[sc]
    best = None
    for _try in range(a.retries + 1):
        quiet(a.noise / 2, a.wait)
        try:
            s = Server(srv["cmd"], mode)
        except RuntimeError as e:
            return {"error": str(e)}
        try:
            r = load(
                s.port,
                s.p.pid,
                "%s %s --secs %g --warmup %g --path /%s" % (args, srv.get("loader", ""), a.secs, a.warmup, mode),
                a.secs + a.warmup + 90,
            )
        except (RuntimeError, subprocess.TimeoutExpired) as e:
            r = {"error": str(e)[:300]}
        finally:
            s.stop(signal.SIGKILL)
        if "error" in r:
            return r
        r["noise"] = r.get("foreign", r.get("hs_foreign", 0))
        if best is None or r["noise"] < best["noise"]:
            best = r
        if best["noise"] <= a.noise:
            break
    t = best.get("utime_ticks", 0) + best.get("stime_ticks", 0)
    if t:
        best["usr_ns"] = best["cpu_ns"] * best["utime_ticks"] / t
    return best


def syscalls(srv, sc, a):
    mode, args, _ = SCENARIOS[sc]
    # perf mounts tracefs if nobody has, which makes the list of events known
    probe = ["perf", "stat", "-e", "raw_syscalls:sys_enter", "true"]
    subprocess.run(probe, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    s = Server(srv["cmd"], mode)
    try:
        # perf counts from before the measuring window to after it; the loader reports all messages it ever got
        out = os.path.join(TMP, "perf.out")
        known = [x for x in SYSCALLS if os.path.isdir("/sys/kernel/tracing/events/syscalls/sys_enter_" + x)]
        ev = ",".join(["raw_syscalls:sys_enter"] + ["syscalls:sys_enter_" + x for x in known])
        pf = subprocess.Popen(
            ["perf", "stat", "-x,", "-o", out, "-e", ev, "-p", str(s.p.pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.4)
        r = load(
            s.port,
            s.p.pid,
            "%s %s --secs %g --warmup 0 --path /%s" % (args, srv.get("loader", ""), a.secs, mode),
            a.secs + 90,
        )
        pf.send_signal(signal.SIGINT)
        pf.wait(10)
    finally:
        s.stop(signal.SIGKILL)
    c = {}
    for l in open(out):
        f = l.split(",")
        if len(f) > 3 and f[0].isdigit():
            c[f[2].replace("syscalls:sys_enter_", "").replace("raw_sys_enter", "total")] = int(f[0])
    m = max(1, r["msgs"])
    conns = int(re.search(r"--conns (\d+)", args).group(1))
    # what opening and closing the connections cost is taken off as far as it is known: counts below one per connection
    return {
        k.replace("raw_syscalls:sys_enter", "total"): v / m
        for k, v in c.items()
        if v > conns * 3 or k.startswith("raw")
    }


def instr(srv, sc, a):
    mode, args, n = SCENARIOS[sc]
    tot = []
    for m in (n, 3 * n):
        out = os.path.join(TMP, "callgrind.%s.%s.%d" % (re.sub(r"\W", "_", srv["name"]), sc, m))
        s = Server(
            srv.get("instr_cmd", srv["cmd"]), mode, ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + out], 60
        )
        try:
            load(s.port, s.p.pid, "%s %s --msgs %d --path /%s" % (args, srv.get("loader", ""), m, mode), 300)
        finally:
            s.stop()
        s.err.seek(0)
        tot.append(int(re.findall(r"Collected : (\d+)", s.err.read())[-1]))
    return (tot[1] - tot[0]) / (2.0 * n)


# ------------------------------------------------------------------ printing


def fmt(v):
    if v is None:
        return "-"
    if v >= 1e6:
        return "%.2fM" % (v / 1e6)
    if v >= 1e4:
        return "%.1fk" % (v / 1e3)
    if v >= 100:
        return "%.0f" % v
    return "%.2f" % v


def col(rs, k, div=1.0):
    v = [r[k] / div for r in rs if k in r]
    if not v:
        return "-"
    return "%s (%s..%s)" % (fmt(statistics.median(v)), fmt(min(v)), fmt(max(v)))


def ratio(a, b, k):
    p = [x[k] / y[k] for x, y in zip(a, b) if k in x and k in y and y[k]]
    if not p:
        return "-"
    m = statistics.median([x[k] for x in a if k in x]) / statistics.median([y[k] for y in b if k in y])
    return "%.2f (%.2f..%.2f)" % (m, min(p), max(p))


def table(head, rows):
    w = [max(len(str(r[i])) for r in [head] + rows) for i in range(len(head))]
    for r in [head] + rows:
        print("  ".join(str(x).ljust(w[i]) if i == 0 else str(x).rjust(w[i]) for i, x in enumerate(r)))
    print(flush=True)


def show(sc, servers, res, base):
    ok = {n: [r for r in res[n] if "error" not in r] for n in res}
    print("== %s   (%s)" % (sc, SCENARIOS[sc][1]))
    rows = []
    for s in servers:
        n = s["name"]
        if not ok[n]:
            rows.append(
                [n, "FAILED: " + (res[n][0]["error"][:70] if res[n] else "not run")]
                + [""] * (9 if sc != "idle10k" else 7)
            )
            continue
        r = ok[n]
        b = ok.get(base, [])
        if sc == "idle10k":
            rows.append(
                [
                    n,
                    col(r, "hs_per_s"),
                    col(r, "hs_cpu_us"),
                    col(r, "anon_per_conn"),
                    col(r, "anon_used_per_conn"),
                    col(r, "idle_cpu_pct"),
                    fmt(statistics.median(x["rss_base_kb"] for x in r)),
                    ratio(r, b, "hs_cpu_us"),
                    ratio(r, b, "anon_used_per_conn"),
                ]
            )
        else:
            lat = (
                "/".join(fmt(statistics.median(x[k] for x in r)) for k in ("p50", "p99", "p999"))
                if r[0]["p50"]
                else "-"
            )
            rows.append(
                [
                    n,
                    col(r, "rate"),
                    col(r, "cpu_ns"),
                    fmt(statistics.median(x.get("usr_ns", 0) for x in r)),
                    lat,
                    "%.2f" % statistics.median(x["srv_util"] for x in r),
                    "%.2f" % statistics.median(x["loader_util"] for x in r),
                    "%.2f" % statistics.median(x["noise"] for x in r),
                    ratio(r, b, "rate"),
                    ratio(r, b, "cpu_ns"),
                ]
            )
            if sc.startswith("big"):
                rows[-1][4] = "%.2f GB/s" % (statistics.median(x["mb_s"] for x in r) / 1000)
    if sc == "idle10k":
        table(
            [
                "server",
                "handshakes/s",
                "cpu us/handshake",
                "B/conn fresh",
                "B/conn after 1 msg",
                "idle cpu %",
                "base RSS kB",
                "hs cpu x " + base,
                "B/conn x " + base,
            ],
            rows,
        )
    else:
        table(
            [
                "server",
                "rate /s",
                "cpu ns/msg",
                "usr",
                "p50/p99/p999 us",
                "S",
                "L",
                "oth",
                "rate x " + base,
                "cpu x " + base,
            ],
            rows,
        )


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument(
        "--ours",
        default=OURS,
        help="command line of the server under test, with {port} and optionally {mode}; default: %(default)s",
    )
    ap.add_argument("--ours-instr", help="command line of another build of it, for --instr (default: the same)")
    ap.add_argument("--name", default="ours", help="what the tables call it")
    ap.add_argument(
        "--peer", action="append", default=[], help="a name in peers.json; the first is what ratios are against"
    )
    ap.add_argument("--peers", default=os.path.join(HERE, "peers.json"))
    ap.add_argument(
        "--scenario",
        default="quick",
        help="comma-separated scenarios or sets: " + ", ".join(list(SCENARIOS) + list(SETS)),
    )
    ap.add_argument("--reps", type=int, default=5)
    ap.add_argument("--secs", type=float, default=2.0)
    ap.add_argument("--warmup", type=float, default=0.5)
    ap.add_argument("--noise", type=float, default=0.15, help="CPUs of other work above which a run is repeated")
    ap.add_argument("--retries", type=int, default=2)
    ap.add_argument("--wait", type=float, default=5, help="longest wait for a quiet machine before each run, in s")
    ap.add_argument("--cpus", default="0,1", help="server's CPU, loader's CPU")
    ap.add_argument("--out", help="append every run to this JSON-lines file")
    ap.add_argument("--syscalls", action="store_true")
    ap.add_argument("--instr", action="store_true")
    ap.add_argument("--list", action="store_true")
    a = ap.parse_args()
    global CPUS
    CPUS = list(map(int, a.cpus.split(",")))
    os.makedirs(TMP, exist_ok=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    peers = json.load(open(a.peers)) if os.path.exists(a.peers) else {}
    if a.list:
        for k, v in SCENARIOS.items():
            print("%-12s %-10s %s" % (k, v[0], v[1]))
        for k, v in SETS.items():
            print("set %-8s %s" % (k, " ".join(v)))
        print("peers:", " ".join(peers))
        return
    servers = []
    if a.ours:
        servers.append({"name": a.name, "cmd": a.ours, **({"instr_cmd": a.ours_instr} if a.ours_instr else {})})
    for p in a.peer:
        if p not in peers:
            sys.exit("no peer %r in %s; there are: %s" % (p, a.peers, " ".join(peers)))
        servers.append({"name": p, **peers[p]})
    if not servers:
        sys.exit("nothing to run: give --ours and/or --peer (see --help)")
    base = (a.peer or [a.name])[0]
    scs = []
    for x in a.scenario.split(","):
        if x not in SCENARIOS and x not in SETS:
            sys.exit("no scenario %r; see --list" % x)
        scs += [y for y in ([x] if x in SCENARIOS else SETS[x]) if y not in scs]

    def log(**k):
        if a.out:
            with open(a.out, "a") as f:
                f.write(json.dumps(k) + "\n")

    for sc in scs:
        mode = SCENARIOS[sc][0]
        who = [s for s in servers if mode in s.get("modes", [mode]) and sc not in s.get("skip", [])]
        if a.syscalls or a.instr:
            rows = []
            for s in who:
                if sc == "idle10k" or (a.instr and s.get("no_instr")):
                    continue
                try:
                    if a.syscalls:
                        c = syscalls(s, sc, a)
                        t = c.pop("total", 0)
                        log(kind="syscalls", sc=sc, name=s["name"], total=t, **c)
                        rows.append(
                            [
                                s["name"],
                                "%.3f" % t,
                                "  ".join(
                                    "%s %.3f" % kv for kv in sorted(c.items(), key=lambda kv: -kv[1]) if kv[1] >= 0.0005
                                ),
                            ]
                        )
                    else:
                        i = instr(s, sc, a)
                        log(kind="instr", sc=sc, name=s["name"], instr=i)
                        rows.append([s["name"], "%.0f" % i, ""])
                except Exception as e:
                    rows.append([s["name"], "FAILED", str(e)[:100]])
            print("== %s: %s per message" % (sc, "syscalls" if a.syscalls else "user instructions"))
            table(["server", "total", ""], rows)
            continue
        res = {s["name"]: [] for s in who}
        for rep in range(a.reps):
            for s in (who if rep % 2 == 0 else who[::-1]):
                if rep >= s.get("reps", 99):
                    continue
                r = one(s, sc, a)
                res[s["name"]].append(r)
                log(kind="run", sc=sc, name=s["name"], rep=rep, **r)
        show(sc, who, res, base)


if __name__ == "__main__":
    main()
