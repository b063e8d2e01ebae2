#!/usr/bin/env python3
"""Summarise an Autobahn Testsuite report (index.json).

  summary.py [--strict] [--log WSTEST_LOG] INDEX_JSON        the last line is "N passed, N failed"
  summary.py --spec TEMPLATE --out SPEC --known CASES_TXT [--url URL] [--outdir DIR]
             [--agent NAME] [CASES...] [--exclude CASES...]

With --log, the cases that wstest said it would run are looked for in the report, and
those that are not there count as MISSING (wstest ends with 0 when the peer goes away).
Exit: 0 good; 1 a case FAILED (behavior or behaviorClose), ended UNCLEAN, or is MISSING,
or, with --strict, is anything but OK or INFORMATIONAL; 2 no usable report.
"""

import argparse
import ast
import collections
import json
import os
import re
import sys

KNOWN = [
    "OK",
    "INFORMATIONAL",
    "NON-STRICT",
    "UNIMPLEMENTED",
    "WRONG CODE",
    "FAILED BY CLIENT",
    "UNCLEAN",
    "FAILED",
    "MISSING",
]
GOOD = {"OK", "INFORMATIONAL"}
BAD = {"FAILED", "UNCLEAN", "MISSING"}  # whatever is in neither is bad with --strict only


def key(case):
    return tuple(int(x) for x in case.split("."))


def expected_cases(log):
    if not log:
        return None
    with open(log, errors="replace") as f:
        for line in f:
            m = re.match(r"Cases = (\[.*\])\s*$", line)
            if m:
                return ast.literal_eval(m.group(1))
    return None


def table(title, results, order):
    """results: {case: word}; one row a section, one column a word."""
    words = [w for w in order if w in results.values()]
    words += sorted(set(results.values()) - set(words))
    rows = collections.defaultdict(collections.Counter)
    for case, word in results.items():
        rows[int(case.split(".")[0])][word] += 1
    head = ["section", "cases"] + words
    body = [[str(s), str(sum(c.values()))] + [str(c[w] or ".") for w in words] for s, c in sorted(rows.items())]
    total = collections.Counter(results.values())
    body.append(["total", str(len(results))] + [str(total[w]) for w in words])
    width = [max(len(r[i]) for r in [head] + body) for i in range(len(head))]
    print(title)
    for r in [head] + body:
        print("  " + "  ".join(x.rjust(w) for x, w in zip(r, width)))


def summarise(a):
    try:
        with open(a.index) as f:
            agents = json.load(f)
    except (OSError, ValueError) as e:
        print("no usable report: %s" % e)
        return 2
    want = expected_cases(a.log)
    if not agents:
        if not want:
            print("the report is empty: no case was run")
            return 2
        agents = {"(none)": {}}
    rc = passed = failed = 0
    for agent in sorted(agents):
        res = agents[agent]
        for r in res.values():
            if r["duration"] > 1e9:  # the handshake never completed: counted from 1970
                r["duration"] = 0
        missing = [c for c in want or [] if c not in res]
        beh = {c: r["behavior"] for c, r in res.items()}
        close = {c: r["behaviorClose"] for c, r in res.items()}
        for c in missing:
            beh[c] = close[c] = "MISSING"
        secs = collections.Counter()
        for c, r in res.items():
            secs[int(c.split(".")[0])] += r["duration"] / 1000
        print("agent %s: %d of %d cases ran" % (agent, len(res), len(beh)))
        table("behavior:", beh, KNOWN)
        table("behaviorClose:", close, KNOWN)
        print(
            "seconds in cases: "
            + ", ".join("%d: %.1f" % x for x in sorted(secs.items()))
            + "; total %.1f" % sum(secs.values())
        )
        odd = sorted((c for c in beh if not (beh[c] in GOOD and close[c] in GOOD)), key=key)
        if odd:
            print("neither OK nor INFORMATIONAL (%d):" % len(odd))
            for c in odd:
                r = res.get(c)
                print(
                    "  %-8s behavior %-13s close %-16s" % (c, beh[c], close[c])
                    + (" code %s, %d ms, %s" % (r["remoteCloseCode"], r["duration"], r["reportfile"]) if r else "")
                )
        failed += len(odd)
        passed += len(beh) - len(odd)
        words = set(beh.values()) | set(close.values())
        if words & BAD or (a.strict and words - GOOD):
            rc = 1
    print("verdict: " + ("good" if rc == 0 else "BAD") + (" (strict)" if a.strict else ""))
    print("%d passed, %d failed" % (passed, failed))
    return rc


def make_spec(a):
    with open(a.spec) as f:
        spec = json.load(f)
    if a.outdir:
        spec["outdir"] = os.path.abspath(a.outdir)
    if "servers" in spec:
        if a.url:
            spec["servers"][0]["url"] = a.url
        if a.agent:
            spec["servers"][0]["agent"] = a.agent
    elif a.url:
        spec["url"] = a.url
    with open(a.known) as f:
        known = f.read().split()
    for pattern in a.cases + a.exclude:  # matched as wstest does it: anchored at the start only
        r = re.compile(pattern.replace(".", r"\.").replace("*", ".*"))
        if not (pattern in known or "*" in pattern and any(r.match(c) for c in known)):
            print("there is no case %s" % pattern)
            return 3
    if a.cases:
        spec["cases"] = a.cases
    if a.exclude:
        spec["exclude-cases"] = a.exclude
    with open(a.out, "w") as f:
        json.dump(spec, f, indent=3)
    return 0


def main():
    if "--spec" in sys.argv[1:]:
        p = argparse.ArgumentParser()
        for o in ("--spec", "--out", "--known", "--url", "--outdir", "--agent"):
            p.add_argument(o, required=o in ("--spec", "--out", "--known"))
        p.add_argument("cases", nargs="*")
        p.add_argument("--exclude", nargs="+", default=[])
        return make_spec(p.parse_args())
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--strict", action="store_true")
    p.add_argument("--log")
    p.add_argument("index")
    return summarise(p.parse_args())


sys.exit(main())
