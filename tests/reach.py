"""Who reaches whom, found out by real packets. It runs in a network namespace, with Python's own modules only.

`serve PORT...` answers on TCP and UDP ports, and says so. `ask` reads lines of `tcp|udp ADDRESS PORT` and prints those
that were answered. `frames send|hear INTERFACE` sends, or waits for, a frame of no protocol that a firewall knows.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import threading
import time

PATIENCE_S = 3.0
ETHERTYPE = 0x88B5
"""For experiments, see IEEE 802."""


def serve(ports: list[int]) -> None:
    """Answer until standard input ends."""
    tcp = [socket.create_server(("0.0.0.0", port)) for port in ports]  # noqa: S104 - in a namespace of its own
    udp = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in ports]
    for sock, port in zip(udp, ports, strict=True):
        sock.bind(("0.0.0.0", port))  # noqa: S104
    print("serving", flush=True)
    while True:
        ready, _, _ = select.select([*tcp, *udp, sys.stdin], [], [])
        for sock in ready:
            if sock is sys.stdin:
                return
            if sock in tcp:
                sock.accept()[0].close()
            else:
                data, sender = sock.recvfrom(100)
                sock.sendto(data, sender)


def ask() -> None:
    """Try all targets at once."""
    targets = [line.split() for line in sys.stdin.read().splitlines()]
    answered: list[str] = []

    def one(protocol: str, address: str, port: str) -> None:
        with contextlib.suppress(OSError), _ATTEMPTS[protocol]((address, int(port))):
            answered.append(f"{protocol} {address} {port}")

    threads = [threading.Thread(target=one, args=target) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("\n".join(answered))


def _udp(target: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(PATIENCE_S)
    try:
        sock.sendto(b"?", target)
        sock.recvfrom(100)
    except OSError:
        sock.close()
        raise
    return sock


_ATTEMPTS = {"tcp": lambda target: socket.create_connection(target, timeout=PATIENCE_S), "udp": _udp}


def frames(what: str, interface: str) -> None:
    """Send a frame to everybody several times; or say `heard` when one comes, `silence` when none does."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE)) as sock:
        sock.bind((interface, ETHERTYPE))
        if what == "send":
            for _ in range(10):
                sock.send(b"\xff" * 6 + b"\x02" + b"\0" * 5 + ETHERTYPE.to_bytes(2, "big") + b"x" * 50)
                time.sleep(0.05)
            return
        print("listening", flush=True)
        sock.settimeout(PATIENCE_S)
        try:
            sock.recv(100)
        except TimeoutError:
            print("silence")
        else:
            print("heard")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", *ports]:
            serve([int(port) for port in ports])
        case ["ask"]:
            ask()
        case ["frames", what, interface]:
            frames(what, interface)
