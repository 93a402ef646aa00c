"""The example server under load and under attack: every good request is answered right, and none is lost.

Many clients at once, malformed and oversized requests among them, NaN, answers that are written into, more
requests than may wait, and a stop while requests run.
"""

import http.client
import importlib.util
import io
import json
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

SERVE = Path(__file__).resolve().parent.parent.parent / "examples/tensorflow_app/serve.py"
_spec = importlib.util.spec_from_file_location("serve_example", SERVE)
serve = importlib.util.module_from_spec(_spec)
sys.modules["serve_example"] = serve
_spec.loader.exec_module(serve)


class Doubler(tf.Module):
    """Stands for a generator: its image is twice its latents."""

    @tf.function(input_signature=[tf.TensorSpec((None, 4), name="latents")])
    def generate(self, latents):
        return {"images": 2.0 * latents}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder, module = tmp_path_factory.mktemp("serving") / "doubler", Doubler()
    tf.saved_model.save(module, str(folder), signatures={"generate": module.generate})
    return folder


def packed(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.fixture
def http_server(saved):
    with serve.BatchingServer(saved) as server:
        with serve.HTTPServer(server, ("127.0.0.1", 0), max_bytes=4096, timeout=5.0) as running:
            thread = threading.Thread(target=running.serve_forever, args=(0.01,))
            thread.start()
            yield running
            running.shutdown()
            thread.join()


def post(port, body, headers=()):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/", body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


MALFORMED = [
    b"", b"nonsense", packed(np.zeros(4, "float32"))[:-1], packed(np.zeros(3, "float32")),
    packed(np.zeros(4, "float64")), packed(np.full(4, np.nan, "float32")),
    packed(np.zeros((2, 4), "float32")),
    packed(np.zeros(4, "float32")).replace(b"(4,), ", b"(4e9,)"),
    packed(np.zeros(4, "float32")).replace(b"(4,)", b"(9999999999999,)"[:4]),
    b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 600,
]  # fmt: skip


def test_a_thousand_requests_of_32_clients_with_malformed_ones_among_them(http_server):
    rng, port = np.random.default_rng(0), http_server.server_port
    latents = rng.standard_normal((1000, 4)).astype("float32")
    malformed = set(rng.choice(1000, 50, replace=False).tolist())

    def ask(index):
        if index in malformed:
            return post(port, MALFORMED[index % len(MALFORMED)])[0]
        status, body = post(port, packed(latents[index]))
        while status == 429:
            time.sleep(0.01)
            status, body = post(port, packed(latents[index]))
        assert status == 200, body
        return np.load(io.BytesIO(body), allow_pickle=False)

    with ThreadPoolExecutor(32) as clients:
        answers = list(clients.map(ask, range(1000)))
    for index, answer in enumerate(answers):
        if index in malformed:
            assert answer == 400
        else:
            np.testing.assert_array_equal(answer, 2 * latents[index])
    assert http_server.server.num_calls < 1000  # they were batched


def test_size_limit_length_and_description(http_server):
    port = http_server.server_port
    assert post(port, b"x" * 5000)[0] == 413
    assert post(port, b"", {"Content-Length": "many"})[0] == 411
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/")
    assert json.loads(connection.getresponse().read()) == {"dtype": "float32", "shape": [4]}


def test_more_than_may_wait_are_told_to_come_back(saved):
    latents = np.ones(4, "float32")
    with serve.BatchingServer(saved, max_batch=1, max_waiting=3) as server:
        release = threading.Event()
        run, server._run = server._run, lambda values: (release.wait(10), run(values))[1]
        futures = [server.submit(latents)]
        while server._requests.qsize():  # the first is being worked on
            time.sleep(0.001)
        futures += [server.submit(latents) for _ in range(3)]
        with pytest.raises(serve.Busy, match="3 requests are waiting"):
            server.submit(latents)
        release.set()
        assert all((future.result(10) == 2).all() for future in futures)


def test_nan_is_refused_and_answers_are_ones_own(saved):
    with serve.BatchingServer(saved, max_wait=0.2) as server:
        for wrong in (np.nan, np.inf):
            with pytest.raises(ValueError, match="expected finite numbers"):
                server.submit(np.array([0, 0, 0, wrong], "float32"))
        first, second = server.submit(np.ones(4, "float32")), server.submit(np.ones(4, "float32"))
        assert server.num_calls <= 1
        first.result(10)[:] = 7
        assert not np.shares_memory(first.result(), second.result(10))
        np.testing.assert_array_equal(second.result(), 2)
        assert first.result().base is None


def test_closing_while_requests_run_leaves_none_without_an_answer(saved):
    latents = np.ones(4, "float32")
    for trial in range(60):
        server, futures = serve.BatchingServer(saved, max_wait=0.0), []

        def ask(server=server, futures=futures):
            try:
                while True:
                    futures.append(server.submit(latents))
            except (RuntimeError, serve.Busy):
                pass

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.0005 * (trial % 5))
        server.close()
        server.close()
        for thread in threads:
            thread.join()
        assert all((future.result(10) == 2).all() for future in futures)


def test_sigterm_stops_the_program_cleanly(saved):
    program = subprocess.Popen(
        [sys.executable, str(SERVE), str(saved), "--port", "0"], stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a shell does behind an &
    )  # fmt: skip
    try:
        port = int(program.stdout.readline().split(":")[2].split("/")[0])
        assert post(port, packed(np.ones(4, "float32")))[0] == 200
        program.send_signal(signal.SIGTERM)
        assert program.stdout.readline() == "stopping\n"
        assert program.wait(20) == 0
    finally:
        program.kill()
        program.stdout.close()
