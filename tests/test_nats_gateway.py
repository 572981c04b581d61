"""Does the harness leave nothing open when it stops asking NATS?"""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
import warnings
from concurrent.futures import CancelledError

from harness.brokers.nats.gateway import Gateway


def test_a_server_that_is_being_dialled_as_the_gateway_ends_is_left_with_a_closed_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        gateway = Gateway({"nats-1": server.getsockname()}, "test")

        def ask() -> None:
            with contextlib.suppress(CancelledError):
                gateway.ask("$JS.API.INFO", {}, within_s=30.0)

        asker = threading.Thread(target=ask)
        asker.start()
        connection, _ = server.accept()  # and says nothing: it goes on being dialled
        with connection, warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            gateway.close()
            asker.join(timeout=10.0)
            assert not asker.is_alive()
            gc.collect()
            connection.settimeout(5.0)
            while connection.recv(4096):  # to the end of what it was sent: a socket that stays open has none
                pass
    assert [str(one.message) for one in warned if "unclosed" in str(one.message)] == []
