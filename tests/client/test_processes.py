"""Clients in programs: what they import, threads, forks, several loops, Ctrl-C, their end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import stagecast
from tests.certificates import Authority, Certificate
from tests.process import environment, running

_HEAD = """
import asyncio, os, signal, sys, threading, time
import stagecast
address = sys.argv[1]
"""


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    """The address of a server in another process, with a batch `b` of dataset `d` in progress."""
    async with running(tmp_path / "s.db") as server:
        client = stagecast.AsyncClient(server.grpc)
        await client.create_batch("d", ["a"], batch_id="b")
        await client.close()
        yield server.grpc


async def run(program: str, *arguments: str, interrupt_after: str = "", **variables: str) -> str:
    """Run a program, and return what it prints; nothing may go to stderr.

    Args:
        program: its text.
        arguments: in `sys.argv`.
        interrupt_after: a line after which it gets Ctrl-C.
        variables: of its environment.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-Werror", "-c", _HEAD + program, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**variables),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(120):
            lines = []
            while line := (await process.stdout.readline()).decode():
                lines.append(line)
                if interrupt_after and line.strip() == interrupt_after:
                    process.send_signal(signal.SIGINT)
            errors = (await process.stderr.read()).decode()
            assert await process.wait() == 0, errors
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert not errors
    return "".join(lines)


# Imports.


async def modules_after(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after a statement."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), stdout=asyncio.subprocess.PIPE, env=environment()
    )
    output, _ = await process.communicate()
    return set(output.decode().split())


async def test_importing_stagecast_loads_nothing_that_grpc_does_not() -> None:
    ours = await modules_after("import stagecast")
    grpc = await modules_after("import grpc")
    assert ours - grpc == {"stagecast"}
    assert "grpc" not in ours


async def test_public_names_load_no_server_code() -> None:
    everything = await modules_after("from stagecast import *; Client('127.0.0.1:1')")
    bare = await modules_after("import grpc")
    packages = {name.split(".")[0] for name in everything - bare} - sys.stdlib_module_names
    assert packages == {"stagecast", "google", "grpc"}
    ours = {name for name in everything if name.startswith("stagecast.")}
    allowed = ("client", "v1", "config", "durations", "errors", "escaping", "failures")
    assert {name.split(".")[1] for name in ours} == set(allowed)


def test_every_public_name_exists() -> None:
    assert len(set(stagecast.__all__)) == len(stagecast.__all__)
    for name in stagecast.__all__:
        assert getattr(stagecast, name) is not None
        assert name in dir(stagecast)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        getattr(stagecast, "Nothing")  # noqa: B009 - mypy knows that it does not exist


@pytest.mark.slow
async def test_failed_handshake_is_in_the_error_and_not_on_stderr(
    tmp_path: Path, authority: Authority, ours: Certificate
) -> None:
    """`run` checks that stderr is empty."""
    tls = ("--tls-cert", str(ours.cert), "--tls-key", str(ours.key))
    other = Authority(tmp_path, "other")
    program = """
client = stagecast.Client(address, ca=sys.argv[2])
try:
    client.get_batch("d", "b")
except stagecast.StagecastError as error:
    print(str(error).partition(": ")[2])
print(os.environ.get("GRPC_VERBOSITY"))
"""
    async with running(tmp_path / "s.db", *tls) as server:
        printed = await run(program, server.grpc, str(other.ca), GRPC_VERBOSITY="")
        assert printed.startswith("its certificate is not trusted (")
        assert printed.endswith(")\nNone\n")
        printed = await run(program, server.grpc, str(authority.ca), GRPC_VERBOSITY="error")
        assert printed.endswith("\nerror\n")


# Threads, loops, forks.


async def test_client_made_at_import_is_shared_by_threads(address: str) -> None:
    program = """
client = stagecast.Client(address)
states = []
def work():
    for _ in range(20):
        states.append(client.get_batch("d", "b").state)
    with client.watch("d", "b") as watch:
        states.append(next(watch).batch.state)
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(states), *set(states))
"""
    assert await run(program, address) == "168 PENDING\n"


async def test_async_client_is_made_before_a_loop_and_used_in_several(address: str) -> None:
    program = """
client = stagecast.AsyncClient(address)
async def use():
    async for event in client.watch("d", "b"):
        break
    return (await client.get_batch("d", "b")).state
async def use_in_block():
    async with client:
        return (await client.get_batch("d", "b")).state
for _ in range(3):
    print(asyncio.run(use()), asyncio.run(use_in_block()))
"""
    assert await run(program, address) == "PENDING PENDING\n" * 3


async def test_async_client_is_used_by_loops_of_several_threads(address: str) -> None:
    program = """
client = stagecast.AsyncClient(address)
async def use():
    states = [(await client.get_batch("d", "b")).state for _ in range(20)]
    await client.close()
    return states
states = []
threads = [
    threading.Thread(target=lambda: states.extend(asyncio.run(use()))) for _ in range(4)
]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(states), *set(states))
"""
    assert await run(program, address) == "80 PENDING\n"


async def test_client_that_is_first_used_after_a_fork_works(address: str) -> None:
    program = """
client = stagecast.Client(address)
if os.fork() == 0:
    print(client.get_batch("d", "b").state, flush=True)
    os._exit(0)
os.wait()
print(client.get_batch("d", "b").state)
"""
    assert await run(program, address) == "PENDING\nPENDING\n"


_FORK = """
client = stagecast.Client(address)
client.get_batch("d", "b")
other = stagecast.AsyncClient(address)
if os.fork() == 0:
    for call in (lambda: client.get_batch("d", "b"), lambda: next(client.watch("d", "b")),
                 lambda: asyncio.run(other.get_batch("d", "b"))):
        try:
            print(type(call()).__name__, flush=True)
        except RuntimeError as error:
            print(str(error).partition(",")[0], flush=True)
    os._exit(0)
os.wait()
print(client.get_batch("d", "b").state)
"""


async def test_client_that_was_used_before_a_fork_says_so(address: str) -> None:
    refusal = "this process was forked from one that had called stagecast\n"
    assert await run(_FORK, address) == refusal * 3 + "PENDING\n"


async def test_client_works_after_a_fork_with_the_support_of_grpc(address: str) -> None:
    refusal = "this process was forked from one that had called stagecast\n"
    output = await run(_FORK, address, GRPC_ENABLE_FORK_SUPPORT="1")
    assert output == f"Batch\nSnapshot\n{refusal}PENDING\n"


# Interruption, and the end.


@pytest.mark.parametrize(
    "waits",
    [
        "for event in client.watch('d', 'b'): print('ready', flush=True)",
        "print('ready', flush=True); client.wait('d', 'b')",
    ],
    ids=["watch", "wait"],
)
async def test_ctrl_c_ends_what_waits_and_the_client_works_on(address: str, waits: str) -> None:
    program = f"""
client = stagecast.Client(address)
try:
    {waits}
except KeyboardInterrupt:
    print("interrupted", client.get_batch("d", "b").state)
"""
    output = await run(program, address, interrupt_after="ready")
    assert output == "ready\ninterrupted PENDING\n"


async def test_interrupted_watch_ends_its_call_and_continues_where_it_was(address: str) -> None:
    program = """
client = stagecast.Client(address)
watch = client.watch("d", "b")
print(type(next(watch)).__name__)

def announce():
    while watch._stream._watchdog._guarded is None:
        time.sleep(0.01)
    print("ready", flush=True)

try:
    threading.Thread(target=announce).start()
    next(watch)
except KeyboardInterrupt:
    print(watch._stream._call)
    client.stop("d", "b")
    print(*(event.kind for event in watch), watch.batch.state)
"""
    output = await run(program, address, interrupt_after="ready")
    assert output == "Snapshot\nready\nNone\nSTOPPED STOPPED\n"


async def test_ctrl_c_ends_an_async_watch(address: str) -> None:
    program = """
client = stagecast.AsyncClient(address)
async def main():
    async for event in client.watch("d", "b"):
        print("ready", flush=True)
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""
    assert await run(program, address, interrupt_after="ready") == "ready\ninterrupted\n"


@pytest.mark.parametrize(
    "program",
    [
        'watch = stagecast.Client(address).watch("d", "b"); next(watch)',
        'client = stagecast.Client(address); watch = client.watch("d", "b"); next(watch)',
        """
async def main():
    global watch
    watch = stagecast.AsyncClient(address).watch("d", "b")
    await anext(watch)
asyncio.run(main())
""",
        """
client = stagecast.Client(address)
def work():
    for event in client.watch("d", "b"): print("ready", flush=True)
thread = threading.Thread(target=work, daemon=True)
thread.start()
client.get_batch("d", "b")
""",
    ],
    ids=["dropped client", "kept watch", "closed loop", "daemon thread"],
)
async def test_program_ends_at_once_although_a_watch_is_open(address: str, program: str) -> None:
    await run(program, address)


# The environment.


@pytest.mark.parametrize("kind", [stagecast.Client, stagecast.AsyncClient])
def test_address_and_key_come_from_the_environment(
    kind: type[stagecast.Client | stagecast.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GRPC", "KEY", "TLS", "CA", "CERT", "CERT_KEY", "TIMEOUT"):
        monkeypatch.delenv(f"STAGECAST_{name}", raising=False)
    assert repr(kind()) == f"{kind.__name__}('127.0.0.1:50051')"
    assert kind()._endpoint.metadata == ()
    assert kind()._endpoint.timeout_s == 60
    monkeypatch.setenv("STAGECAST_GRPC", " status:1 ")
    monkeypatch.setenv("STAGECAST_KEY", "secret")
    monkeypatch.setenv("STAGECAST_TIMEOUT", "5")
    monkeypatch.setenv("STAGECAST_TLS", "yes")
    client = kind()
    assert repr(client) == f"{kind.__name__}('status:1', tls=True)"
    assert client._endpoint.metadata == (("authorization", "Bearer secret"),)
    assert client._endpoint.timeout_s == 5
    other = kind("other:2", key="mine", tls=False, timeout=7)
    assert repr(other) == f"{kind.__name__}('other:2')"
    assert other._endpoint.metadata == (("authorization", "Bearer mine"),)
    assert other._endpoint.timeout_s == 7
    for name in ("GRPC", "KEY", "TLS", "TIMEOUT"):
        monkeypatch.setenv(f"STAGECAST_{name}", " ")
    assert repr(kind()) == f"{kind.__name__}('127.0.0.1:50051')"


@pytest.mark.parametrize(
    ("name", "value", "refusal"),
    [
        ("TLS", "maybe", "STAGECAST_TLS: 'maybe' is neither yes nor no"),
        ("TIMEOUT", "0", "STAGECAST_TIMEOUT: '0' is not a positive number of seconds"),
        ("TIMEOUT", "soon", "STAGECAST_TIMEOUT: 'soon' is not a positive number of seconds"),
        ("GRPC", "http://status:1", "is not HOST:PORT"),
        ("CA", "nothing.pem", "nothing.pem"),
        ("CERT", "mine.pem", "give both a client certificate and its private key, or neither"),
    ],
)
def test_invalid_variable_is_named(
    name: str, value: str, refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"STAGECAST_{name}", value)
    with pytest.raises(ValueError, match=refusal):
        stagecast.Client()


async def test_certificates_come_from_arguments_or_the_environment(
    tmp_path: Path, authority: Authority, ours: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ("--tls-cert", str(ours.cert), "--tls-key", str(ours.key))
    mine = authority.issue("mine")
    strict = (*tls, "--tls-client-ca", str(authority.ca))
    async with running(tmp_path / "s.db", *strict) as server:
        by_argument = stagecast.Client(
            server.grpc, ca=str(authority.ca), cert=mine.cert, cert_key=mine.key
        )
        assert await asyncio.to_thread(lambda: list(by_argument.list_datasets())) == []
        by_argument.close()
        monkeypatch.setenv("STAGECAST_CA", str(authority.ca))
        monkeypatch.setenv("STAGECAST_CERT", str(mine.cert))
        monkeypatch.setenv("STAGECAST_CERT_KEY", str(mine.key))
        async with stagecast.AsyncClient(server.grpc) as client:
            assert [dataset async for dataset in client.list_datasets()] == []
