#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""wan-relay.py IF_A IF_B DELAY_MS RATE_MBIT: a WAN line between two interfaces, for kernels without netem.

Every frame waits its turn at the rate of the line, then the delay. A queue of 100 ms drops its tail.
"""
import heapq
import select
import socket
import sys
import time

PACKET_IGNORE_OUTGOING = 23
QUEUE_SECONDS = 0.1


def port(name):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.setsockopt(263, PACKET_IGNORE_OUTGOING, 1)
    sock.bind((name, 0))
    sock.setblocking(False)
    return sock


def main():
    a, b = port(sys.argv[1]), port(sys.argv[2])
    delay, rate = float(sys.argv[3]) / 1000, float(sys.argv[4]) * 1e6 / 8
    other = {a: b, b: a}
    free = {a: 0.0, b: 0.0}
    queue, count = [], 0
    while True:
        now = time.monotonic()
        while queue and queue[0][0] <= now:
            _, _, out, frame = heapq.heappop(queue)
            try:
                out.send(frame)
            except OSError:
                pass
        wait = max(0.0, queue[0][0] - now) if queue else 1.0
        for sock in select.select([a, b], [], [], wait)[0]:
            for _ in range(256):
                try:
                    frame = sock.recv(65536)
                except BlockingIOError:
                    break
                now = time.monotonic()
                start = max(now, free[sock])
                if start - now > QUEUE_SECONDS:
                    continue
                free[sock] = start + len(frame) / rate
                count += 1
                heapq.heappush(queue, (free[sock] + delay, count, other[sock], frame))


main()
