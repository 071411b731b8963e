#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Takes the rungs of discovery away in the lab, one after the other; servers must find each other by those that are left.

First a network that routes multicast, with no seeds; then a site whose interfaces vanish, whose addresses change, that has no
IPv4, and three faults that no server can mend but whose causes 'meshctl discovery' must name. Needs the debug build. Prints how long
each took; exit 1 names what did not come to hold in its time.
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
STATE = TOP / ".build/ladder-lab"
ENV = dict(os.environ, LAB_DIR=str(STATE), LAB_PREFIX="hfl")
# How long a server may take to use an interface or an address that came. A dead link ends after 5 s.
BACK_SECONDS = 12
# Nobody must have been heard for 45 s before multicast is said to be blocked.
CAUSE_SECONDS = 90


def lab(*words, check=True, **env):
    run = subprocess.run([TOP / "cluster/lab", *words], env=dict(ENV, **env), capture_output=True, text=True,
                         timeout=120)
    if check and run.returncode != 0:
        sys.exit(f"lab {' '.join(words)}: {run.stderr.strip()}")
    return run


def host(node, *words, check=True):
    return lab("exec", node, *words, check=check)


def view(node, command):
    run = lab("exec", node, "meshctl", command, "-o", "json", check=False)
    # Status 2 means that something is not well; the answer is there all the same.
    if run.returncode not in (0, 2):
        sys.exit(f"{node}: meshctl {command}: {run.stderr.strip()}")
    return json.loads(run.stdout)


def peers(node):
    return {peer["node"]: peer for peer in view(node, "peers").get("peers", [])}


def seen(node, other):
    return peers(node).get(other, {})


def sees(node, others):
    found = peers(node)
    return all(found.get(other, {}).get("state") == "alive" for other in others)


def joined(node):
    """Whether a host has joined the IPv4 group of the beacons."""
    return "239.255.73.74" in host(node, "ip", "maddr", "show", "dev", "eth0").stdout


def all_see_all():
    nodes = lab("nodes").stdout.split()
    return all(sees(node, [other for other in nodes if other != node]) for node in nodes)


def names(node, *words):
    return any(all(word in cause for word in words) for cause in view(node, "discovery").get("causes", []))


def within(seconds, what, holds):
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            for node in lab("nodes").stdout.split():
                print(f"-- {node}", lab("exec", node, "meshctl", "peers", check=False).stdout,
                      lab("exec", node, "meshctl", "discovery", check=False).stdout, sep="\n")
            sys.exit(f"not within {seconds} s: {what}")
        time.sleep(0.2)
    print(f"  {time.monotonic() - began:5.1f} s  {what}", flush=True)


def drop(node, *rules):
    host(node, "nft", "add table inet fault")
    for chain, rule in rules:
        hook = "{ type filter hook %sput priority 0; }" % chain
        host(node, "nft", f"add chain inet fault {chain} {hook}")
        host(node, "nft", f"add rule inet fault {chain} {rule} drop")


def restart(node):
    lab("stop", node)
    lab("start", node)


def routed_multicast():
    """Sites without seeds, in a network that routes multicast."""
    lab("down", check=False)
    lab("up", "2", "1", LAB_NO_SEEDS="1", LAB_MESHD_ARGS="MESH_DISCOVERY_TTL=4")
    time.sleep(3)
    if peers("s1-1").keys() - {"s1-1"}:
        sys.exit("sites found each other before anything was routed: this shows nothing")
    lab("mroute", "on")
    within(30, "two sites and the centre, no seeds: multicast is routed, all know all", all_see_all)
    lab("mroute", "off")


def own_segment():
    """A site whose interfaces and addresses come and go."""
    lab("down", check=False)
    lab("up", "1", "4")
    within(10, "four servers of one site and the centre: all know all", all_see_all)
    # With IPv6 it would be linked by that all the same.
    host("s1-2", "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
    host("s1-2", "ip", "link", "set", "eth0", "down")
    within(15, "s1-2 lost its interface: s1-1 knows", lambda: seen("s1-1", "s1-2").get("state") == "away")
    host("s1-2", "ip", "link", "set", "eth0", "up")
    within(BACK_SECONDS, "s1-2 has its interface back: all of its site are known again",
           lambda: sees("s1-2", ["s1-1", "s1-3", "s1-4"]) and sees("s1-1", ["s1-2"]))
    host("s1-2", "ip", "-4", "addr", "flush", "dev", "eth0")
    host("s1-2", "ip", "addr", "add", "10.77.1.42/24", "dev", "eth0")
    within(BACK_SECONDS, "s1-2 has another address: s1-1 is linked with it there",
           lambda: "10.77.1.42" in (seen("s1-1", "s1-2").get("path") or ""))
    host("s1-3", "ip", "-4", "addr", "flush", "dev", "eth0")
    restart("s1-3")
    within(BACK_SECONDS, "s1-3 has no IPv4: it is found by IPv6",
           lambda: sees("s1-3", ["s1-1", "s1-4"]) and sees("s1-1", ["s1-3"]))
    within(1, "apps on s1-3 itself are served all the same",
           lambda: host("s1-3", "curl", "-sf", "http://127.0.0.1:7373/v1/status", check=False).returncode == 0)
    host("s1-3", "ip", "addr", "add", "10.77.1.43/24", "dev", "eth0")
    within(BACK_SECONDS, "s1-3 has IPv4 now: s1-2, which has nothing else, is linked with it, and hears its beacons",
           lambda: "10.77.1.43" in (seen("s1-2", "s1-3").get("path") or "") and joined("s1-3"))


def causes():
    """Faults outside the servers: each is named where it is seen."""
    drop("s1-4", ("in", "udp dport 7375"))
    restart("s1-4")
    drop("s1-3", ("in", "tcp dport 7374"), ("out", "tcp dport 7374"))
    restart("s1-3")
    host("s1-2", "ip", "-4", "addr", "flush", "dev", "eth0")
    host("s1-2", "ip", "addr", "add", "10.99.0.2/24", "dev", "eth0")
    within(CAUSE_SECONDS, "s1-2 is in another network: s1-1 says so",
           lambda: names("s1-1", "10.99.0.2", "interfaces_differ"))
    within(CAUSE_SECONDS, "s1-3 is behind a firewall: s1-1 says that it cannot be reached",
           lambda: names("s1-1", "s1-3 announces", "cannot be reached"))
    within(CAUSE_SECONDS, "s1-4 hears no multicast: it says so, and is linked by its seed",
           lambda: names("s1-4", "eth0: s1-1", "blocks multicast") and sees("s1-4", ["s1-1", "centre"]))


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    try:
        for part in [routed_multicast, own_segment, causes]:
            print(part.__doc__, flush=True)
            part()
    finally:
        lab("down", check=False)
    print("ok: every rung carried, and what broke was named")


main()
