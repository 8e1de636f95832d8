"""Python reads this before anything else: what runs here may talk to loopback and to nothing besides.

A library that calls home ends the process, even where it would have caught the error.
"""

import os
import sys

LOOPBACK = {"127.0.0.1", "::1", "localhost", b"localhost", b"127.0.0.1", None, ""}
# The place of the host, or of an address that begins with it, among the arguments of what Python announces.
HOSTS = {"socket.connect": 1, "socket.sendto": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0}


def hook(event, arguments):
    if event not in HOSTS:
        return
    host = arguments[HOSTS[event]]
    # A path of a Unix socket is no host.
    host = host[0] if isinstance(host, tuple) else host if event.startswith("socket.get") else None
    if host not in LOOPBACK:
        print(f"FAILED: something wants to talk to {host!r}, which is not loopback", file=sys.stderr, flush=True)
        os._exit(3)


sys.addaudithook(hook)
