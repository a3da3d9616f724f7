#!/usr/bin/python3
"""Puts of etcd's plain gRPC (KV/Put) on one kept connection: etcd_client.py ENDPOINT[,ENDPOINT…] COUNT SIZE.

Prints a line for each: two times in nanoseconds of CLOCK_MONOTONIC. When an endpoint fails, the next one is asked.
"""

import struct
import sys
import time

import pycurl


def field(number, data):
    return bytes([number << 3 | 2]) + varint(len(data)) + data


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


class Client:
    def __init__(self, endpoint):
        self.headers = []
        self.curl = pycurl.Curl()
        self.curl.setopt(pycurl.URL, f"http://{endpoint}/etcdserverpb.KV/Put")
        self.curl.setopt(pycurl.HTTP_VERSION, 5)  # HTTP/2 by prior knowledge
        self.curl.setopt(pycurl.HTTPHEADER, ["content-type: application/grpc", "te: trailers", "Expect:"])
        self.curl.setopt(pycurl.POST, 1)
        self.curl.setopt(pycurl.TCP_NODELAY, 1)
        self.curl.setopt(pycurl.TIMEOUT_MS, 700)
        self.curl.setopt(pycurl.HEADERFUNCTION, self.headers.append)
        self.curl.setopt(pycurl.WRITEFUNCTION, lambda data: None)

    def put(self, key, value):
        message = field(1, key) + field(2, value)
        self.headers.clear()
        self.curl.setopt(pycurl.POSTFIELDS, struct.pack(">BI", 0, len(message)) + message)
        self.curl.perform()
        said = b"".join(self.headers).lower()
        if b"grpc-status: 0" not in said:
            raise OSError(said.decode(errors="replace"))


def main():
    endpoints = sys.argv[1].split(",")
    count, size = int(sys.argv[2]), int(sys.argv[3])
    clients = [Client(endpoint) for endpoint in endpoints]
    at = 0
    for i in range(count):
        value = bytes([97 + i % 26]) * size
        before = time.monotonic_ns()
        while True:
            try:
                clients[at].put(b"bench/one", value)
                break
            except (OSError, pycurl.error):
                at = (at + 1) % len(clients)
                clients[at] = Client(endpoints[at])
        print(before, time.monotonic_ns(), flush=True)


if __name__ == "__main__":
    main()
