"""Addresses as users write them, and whether only this machine can reach them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.config import Config, check_origin, is_loopback, socket_path, split_address

ADDRESSES = {
    "127.0.0.1:8000": ("127.0.0.1", 8000),
    "0.0.0.0:0": ("0.0.0.0", 0),  # noqa: S104 - nobody listens
    "localhost:1": ("localhost", 1),
    "example.org:443": ("example.org", 443),
    "my_host-1:65535": ("my_host-1", 65_535),
    "host:00080": ("host", 80),
    "[::1]:8000": ("::1", 8000),
    "[::]:0": ("::", 0),
    "[2001:db8::7]:50051": ("2001:db8::7", 50_051),
    "[fe80::1%eth0]:80": ("fe80::1%eth0", 80),
}

INVALID_ADDRESSES = {
    "empty": "",
    "no_port": "localhost",
    "empty_port": "localhost:",
    "no_host": ":8000",
    "only_port": "8000",
    "only_colon": ":",
    "port_too_large": "localhost:65536",
    "port_far_too_large": "localhost:99999",
    "port_too_long": "localhost:080000",
    "negative_port": "localhost:-1",
    "signed_port": "localhost:+80",
    "named_port": "localhost:http",
    "other_digits": "localhost:٨٠",
    "wide_digits": "localhost:\uff18\uff10",
    "bare_ipv6": "::1:8000",
    "empty_brackets": "[]:8000",
    "open_bracket": "[::1:8000",
    "closed_bracket": "::1]:8000",
    "two_brackets": "[[::1]]:8000",
    "brackets_without_port": "[::1]",
    "brackets_without_colon": "[::1]8000",
    "blank_before": " localhost:80",
    "blank_inside": "local host:80",
    "blank_in_brackets": "[:: 1]:80",
    "blank_behind": "localhost:80 ",
    "newline_behind": "localhost:80\n",
    "two_ports": "localhost:80:80",
    "path": "localhost:80/",
}

LOOPBACK = (
    "127.0.0.1:0",
    "127.0.0.1:8000",
    "127.0.0.53:53",
    "127.255.255.254:1",
    "localhost:50051",
    "[::1]:8000",
    "[0:0:0:0:0:0:0:1]:8000",
)

NOT_LOOPBACK = (
    "0.0.0.0:8000",
    "10.0.0.1:8000",
    "128.0.0.1:8000",
    "192.168.1.1:80",
    "[::]:8000",
    "[::2]:8000",
    "[2001:db8::7]:8000",
    "[fe80::1]:80",
    "example.org:443",
    "localhost.example.org:443",
    "127.0.0.1.example.org:443",
    "notlocalhost:80",
)


ORIGINS = (
    "http://localhost:3000",
    "https://app.example.com",
    "http://192.168.1.7:8080",
    "http://[::1]:3000",
)

INVALID_ORIGINS = {
    "any": "*",
    "empty": "",
    "null": "null",
    "no scheme": "app.example.com",
    "other scheme": "ftp://app.example.com",
    "path": "https://app.example.com/",
    "upper case": "https://App.example.com",
    "wildcard": "https://*.example.com",
    "user": "https://me@app.example.com",
    "no port": "https://app.example.com:",
    "two": "https://app.example.com https://example.org",
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_valid_origin_is_accepted(origin: str) -> None:
    assert check_origin(origin) == origin


@pytest.mark.parametrize("origin", INVALID_ORIGINS.values(), ids=list(INVALID_ORIGINS))
def test_invalid_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="is not an origin such as"):
        check_origin(origin)


@pytest.mark.parametrize(("address", "expected"), ADDRESSES.items(), ids=list(ADDRESSES))
def test_address_is_split_into_host_and_port(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


@pytest.mark.parametrize("host", ["a..b", ".a", "a" * 64, "x." + "\xe4" * 63])
def test_invalid_host_name_is_refused_in_plain_words(host: str) -> None:
    with pytest.raises(ValueError, match="is not a host name: each part between dots"):
        split_address(f"{host}:0")


@pytest.mark.parametrize("address", INVALID_ADDRESSES.values(), ids=list(INVALID_ADDRESSES))
def test_error_for_a_malformed_address_quotes_it_and_gives_an_example(address: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT, such as") as caught:
        split_address(address)
    assert repr(address) in str(caught.value)


@given(host=st.ip_addresses(), port=st.integers(0, 65_535))
def test_every_ip_address_with_every_port_is_split(host: object, port: int) -> None:
    written = f"[{host}]" if ":" in str(host) else str(host)
    assert split_address(f"{written}:{port}") == (str(host), port)


@given(text=st.text())
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        host, port = split_address(text)
    except ValueError:
        return
    assert host
    assert 0 <= port <= 65_535


@pytest.mark.parametrize("address", LOOPBACK)
def test_address_that_only_this_machine_can_reach_is_loopback(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", NOT_LOOPBACK)
def test_address_that_others_may_reach_is_not_loopback(address: str) -> None:
    assert not is_loopback(address)


@given(host=st.ip_addresses(v=4))
def test_ipv4_is_loopback_exactly_if_it_begins_with_127(host: object) -> None:
    assert is_loopback(f"{host}:80") == str(host).startswith("127.")


@pytest.mark.parametrize("address", INVALID_ADDRESSES.values(), ids=list(INVALID_ADDRESSES))
def test_loopback_check_refuses_a_malformed_address(address: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        is_loopback(address)


def test_default_addresses_are_loopback() -> None:
    assert is_loopback(Config().grpc)
    assert is_loopback(Config().http)


def test_socket_path_may_have_any_printable_file_name() -> None:
    for path in ("/run/n\u00a0b.sock", "/run/\u5831\u3000\u66f8.sock"):
        assert socket_path(f"unix:{path}") == path
