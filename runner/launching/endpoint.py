"""Where the machines of a run meet: one of them listens there, the others come to it."""

from __future__ import annotations

import socket
import sys
import time
from dataclasses import dataclass

from ...registry.errors import UserError

PATIENCE_S = 600.0  # between the first machine and the last


@dataclass(frozen=True)
class Endpoint:
    """A meeting place, as this machine sees it.

    Attributes:
        host: Its name or address.
        port: Its port.
        here: Whether this machine listens there.
        own_address: The address of this machine that the others reach it by.
        interface: The network interface that has it; None where it is not known.
    """

    host: str
    port: int
    here: bool
    own_address: str
    interface: str | None


def split_address(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, or of [IPV6]:PORT.

    Raises:
        UserError: It is not that.
    """
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
        raise UserError(
            f"--rendezvous {text}: expected HOST:PORT, one of the machines and a port that is free there, as in "
            "node01:29400; the same on every machine"
        )
    return host, int(port)


def reach(text: str, patience_s: float = PATIENCE_S) -> Endpoint:
    """Find the meeting place; wait until the machine that listens there is up.

    Args:
        text: HOST:PORT.
        patience_s: How long to wait.

    Raises:
        UserError: Nobody listens there in that time.
    """
    host, port = split_address(text)
    until, waits = time.monotonic() + patience_s, False
    while True:
        found = _look(host, port)
        if isinstance(found, Endpoint):
            return found
        if time.monotonic() > until:
            raise UserError(
                f"--rendezvous {text}: no answer in {patience_s:.0f} s ({found}); start the same command on "
                f"{host} too, and see that the port is open between the machines"
            )
        if not waits:
            print(f"waiting for {text} ({found}), {patience_s:.0f} s at most", file=sys.stderr, flush=True)
        waits = True
        time.sleep(0.5)


def _look(host: str, port: int) -> Endpoint | str:
    """The meeting place, or why it is not there yet."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        own = _own_address(family, address)
        interfaces = _interfaces()
        here = str(address[0]) in interfaces and _is_free(family, address)
        if not here:
            socket.create_connection((host, port), timeout=5).close()
    except OSError as error:  # no such name yet, nobody there yet
        return error.strerror or str(error)
    return Endpoint(host, port, here, own, interfaces.get(own))


def _own_address(family: int, address: tuple[object, ...]) -> str:
    """This machine's address on the way there: nothing is sent."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def _interfaces() -> dict[str, str]:
    """Each address of this machine, and the interface that has it."""
    import psutil

    every = psutil.net_if_addrs().items()
    return {one.address.partition("%")[0]: name for name, addresses in every for one in addresses}


def _is_free(family: int, address: tuple[object, ...]) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return False
    return True
