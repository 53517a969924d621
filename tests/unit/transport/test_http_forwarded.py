"""Whose address a request has, behind proxies and without."""

from __future__ import annotations

import pytest

from unit.transport.harness import Connection, post

PEER = "192.0.2.7"


def client(*headers: str, trusted: int = 1) -> str | None:
    connection = Connection(trusted_proxies=trusted)
    connection.send(post(headers=headers))
    return connection.core.submitted[0].client_address


@pytest.mark.parametrize(
    ("trusted", "header", "expected"),
    [
        (0, "203.0.113.9", PEER),
        (1, "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (2, "198.51.100.1, 203.0.113.9", "198.51.100.1"),
        # It did not come through all of them.
        (3, "198.51.100.1, 203.0.113.9", PEER),
        (2, "203.0.113.9", PEER),
        # What the client wrote itself is further left.
        (2, "6.6.6.6, junk, 198.51.100.1, 203.0.113.9", "198.51.100.1"),
    ],
)
def test_client_is_the_nth_forwarded_address_from_the_right(trusted, header, expected):
    assert client(f"X-Forwarded-For: {header}", trusted=trusted) == expected


NODES = [
    ("203.0.113.9", "203.0.113.9"),
    ("203.0.113.9:1234", "203.0.113.9"),
    ("2001:db8::1", "2001:db8::1"),
    ("2001:DB8:0::0:1", "2001:db8::1"),
    ("[2001:db8::1]", "2001:db8::1"),
    ("[2001:db8::1]:443", "2001:db8::1"),
    ("::ffff:203.0.113.9", "203.0.113.9"),
    ("[::ffff:203.0.113.9]:80", "203.0.113.9"),
    ("fe80::1%eth0", "fe80::1"),
    ("", PEER),
    ("unknown", PEER),
    ("_hidden", PEER),
    ("_hidden:80", PEER),
    ("localhost", PEER),
    ("203.0.113", PEER),
    ("203.0.113.256", PEER),
    ("203.0.113.9.1", PEER),
    ("203.0.113.09", PEER),
    ("0x7f.1", PEER),
    ("[2001:db8::1", "2001:db8::1"),
    ("2001:db8::g", PEER),
    (":::", PEER),
    ("\xff\xfe", PEER),
    ("٢٠٣.0.113.9".encode().decode("latin-1"), PEER),
    ("203.0.113.9\t", "203.0.113.9"),
]


def send_raw(name: str, value: str) -> str | None:
    connection = Connection(trusted_proxies=1)
    head = f"POST /e HTTP/1.1\r\n{name}: {value}\r\nContent-Length: 2\r\n\r\n"
    connection.send(head.encode("latin-1") + b"{}")
    return connection.core.submitted[0].client_address


@pytest.mark.parametrize(("node", "expected"), NODES)
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("X-Forwarded-For", "{}"),
        ("X-Forwarded-For", "6.6.6.6,{}"),
        ("Forwarded", "for={}"),
        ("Forwarded", 'FOR="{}"'),
        ("Forwarded", 'for=6.6.6.6, proto=https;For = "{}" ;by=_x'),
        ("X-Real-IP", "{}"),
    ],
)
def test_every_form_of_an_address_is_read_and_anything_else_is_not(name, form, node, expected):
    assert send_raw(name, form.format(node)) == expected


@pytest.mark.parametrize(
    ("trusted", "value", "expected"),
    [
        (0, "for=203.0.113.9", PEER),
        (1, "for=198.51.100.1, for=203.0.113.9", "203.0.113.9"),
        (2, "for=198.51.100.1, for=203.0.113.9", "198.51.100.1"),
        (3, "for=198.51.100.1, for=203.0.113.9", PEER),
        # A quote that a client leaves open must not swallow what a proxy appends.
        (1, 'for="6.6.6.6, for=203.0.113.9', "203.0.113.9"),
        (1, "proto=https", PEER),
        (1, "for", PEER),
        (1, "for=;for=203.0.113.9", PEER),
        (1, "", PEER),
    ],
)
def test_the_standard_header_is_counted_from_the_right_too(trusted, value, expected):
    assert client(f"Forwarded: {value}", trusted=trusted) == expected


@pytest.mark.parametrize(("trusted", "expected"), [(0, PEER), (1, "9.9.9.9"), (3, "9.9.9.9")])
def test_a_real_ip_stands_for_the_client_however_many_proxies_there_are(trusted, expected):
    assert client("X-Real-IP: 9.9.9.9", trusted=trusted) == expected


def test_a_later_header_is_not_believed_beside_an_earlier_one():
    listed, standard, real = (
        "X-Forwarded-For: 203.0.113.1",
        "Forwarded: for=203.0.113.2",
        "X-Real-IP: 203.0.113.3",
    )
    assert client(real, standard, listed) == "203.0.113.1"
    assert client(real, standard) == "203.0.113.2"
    # Nor where the earlier one says nothing of use.
    assert client("X-Forwarded-For: unknown", standard, real) == PEER
    assert client("Forwarded: for=unknown", real) == PEER
    assert client(listed, standard, real, trusted=2) == PEER


def test_repeated_headers_are_one_list():
    headers = ("X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 203.0.113.9")
    assert client(*headers, trusted=2) == "198.51.100.1"
    headers = ("Forwarded: for=198.51.100.1", "Forwarded: for=203.0.113.9")
    assert client(*headers, trusted=2) == "198.51.100.1"
    assert client("X-Real-IP: 198.51.100.1", "X-Real-IP: 203.0.113.9") == "203.0.113.9"


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_one_request_says_nothing_of_the_next(name):
    connection = Connection(trusted_proxies=1)
    value = "for=203.0.113.9" if name == "Forwarded" else "203.0.113.9"
    connection.send(post(headers=(f"{name}: {value}",)), post())
    first, second = connection.core.submitted
    assert (first.client_address, second.client_address) == ("203.0.113.9", PEER)


@pytest.mark.parametrize(
    ("name", "forged", "end"),
    [
        ("X-Forwarded-For", "6.6.6.6, ", "1.1.1.1"),
        ("Forwarded", "for=6.6.6.6, ", "for=1.1.1.1"),
    ],
)
def test_of_a_long_forwarded_header_the_end_decides(name, forged, end):
    connection = Connection(trusted_proxies=1)
    connection.send(post(headers=(f"{name}: {forged * 3000}{end}",)))
    assert connection.core.submitted[0].client_address == "1.1.1.1"
    kept = connection.protocol._forwarded or {}
    assert [len(value) <= 4096 for value in kept.values()] == [True]
