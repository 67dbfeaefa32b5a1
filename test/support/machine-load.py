"""Load on a machine, with nothing but Python: kept and new connections through the forward proxy, and
one long stream. Says in /tmp/load.begun that all are answered, runs until the file /tmp/load.stop is
there, then says in /tmp/load.json what it saw."""

import http.client
import json
import os
import socket
import threading
import time

lock = threading.Lock()
seen = {"requests": 0, "failed": [], "echoed": 0, "cut": ""}


def over():
    return os.path.exists("/tmp/load.stop")


def ask(connection):
    connection.request("GET", "http://orders.mesh/")
    response = connection.getresponse()
    response.read()
    if response.status != 200:
        raise OSError(f"status {response.status} {response.headers.get('x-mesh-reason')}")


def client(kept):
    connection = None
    while not over():
        try:
            if connection is None or not kept:
                connection = http.client.HTTPConnection("127.0.0.1", 15002, timeout=5)
            ask(connection)
            problem = ""
        except Exception as error:
            problem, connection = repr(error), None
        with lock:
            seen["requests"] += 1
            if problem:
                seen["failed"].append(problem)
        time.sleep(0.05)


def stream():
    try:
        with socket.create_connection(("127.0.0.1", 9003), timeout=10) as connection:
            while not over():
                connection.sendall(b"x")
                if connection.recv(1) != b"x":
                    raise OSError("the stream ended")
                seen["echoed"] += 1
                if seen["echoed"] == 1:
                    open("/tmp/load.begun", "w").close()
                time.sleep(0.05)
    except Exception as error:
        seen["cut"] = repr(error)


threads = [threading.Thread(target=client, args=(kept,)) for kept in (True, True, False, False)]
threads.append(threading.Thread(target=stream))
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with open("/tmp/load.json.new", "w") as file:
    json.dump(seen, file)
os.rename("/tmp/load.json.new", "/tmp/load.json")
