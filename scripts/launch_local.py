"""Starts a cluster of workers on this machine, to try distributed training out:

    python scripts/launch_local.py -n 2 -- train dcgan.glyphs --out runs/cluster

What follows -- is a command of `tf-gan-zoo`; every worker runs it with --strategy multi_worker and its own
TF_CONFIG. All share the CPU, so this is no faster than one process. If a worker dies, the others are stopped;
with --restarts the whole cluster is started again and goes on from its last checkpoint, as Slurm's --requeue
or a Kubernetes job would do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

#: Seconds that workers get to end by themselves after one of them has failed. Some wait for ever.
PATIENCE = 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", "--workers", type=int, default=2)
    parser.add_argument("--restarts", type=int, default=0, help="times to start the cluster again")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- train NAME --out DIR ...")
    arguments = parser.parse_args()
    command = [word for word in arguments.command if word != "--"]
    if arguments.workers < 1 or command[:1] != ["train"]:
        parser.error("give at least one worker and a training command: -n 2 -- train dcgan.glyphs --out DIR")
    sys.exit(run(command, arguments.workers, arguments.restarts))


def run(command: list[str], workers: int, restarts: int) -> int:
    """Runs the cluster until it succeeds or may not be started again; returns the exit status."""
    for attempt in range(restarts + 1):
        resume = ["--resume"] if attempt and "--resume" not in command else []
        status = run_once([*command, *resume], workers)
        if status in (0, 2, 130):  # done, a wrong command, or Ctrl-C: no use in another try
            return status
        if attempt < restarts:
            print(f"A worker failed (status {status}); starting the cluster again.", flush=True)
    return status


def run_once(command: list[str], workers: int) -> int:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    processes = [start(command, addresses, index) for index in range(workers)]
    printers = [threading.Thread(target=relay, args=(i, p), daemon=True) for i, p in enumerate(processes)]
    for printer in printers:
        printer.start()
    try:
        status = wait(processes)
    except KeyboardInterrupt:
        stop(processes, signal.SIGINT)
        status = 130
    for printer in printers:
        printer.join(timeout=10)
    return status


def start(command: list[str], addresses: list[str], index: int) -> subprocess.Popen:
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    return subprocess.Popen(
        [sys.executable, "-m", "tf_gan_zoo", *command, "--strategy", "multi_worker"],
        env={**os.environ, "TF_CONFIG": json.dumps(task)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    )  # fmt: skip


def wait(processes: list[subprocess.Popen]) -> int:
    """Waits for all; once one has failed, stops the others. Returns the first failure's status."""
    while (statuses := [p.poll() for p in processes]).count(None):
        failed = [status for status in statuses if status]
        if failed:
            stop(processes, signal.SIGTERM)
            return failed[0]
        time.sleep(0.2)
    return next((status for status in statuses if status), 0)


def stop(processes: list[subprocess.Popen], signum: int) -> None:
    deadline = time.time() + PATIENCE
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signum)
    for process in processes:
        try:
            process.wait(timeout=max(deadline - time.time(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()  # a worker that waits for a lost one ignores SIGTERM
            process.wait()


def relay(index: int, process: subprocess.Popen) -> None:
    """Prints a worker's lines with its number in front."""
    for line in process.stdout:
        print(f"[{index}] {line}", end="", flush=True)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


if __name__ == "__main__":
    main()
