"""Servers of streams and datagrams: a function of ours for each connection or datagram, in a greenlet of its own."""

from streamserve.server.datagram import DatagramServer
from streamserve.server.lifecycle import BaseServer
from streamserve.server.stream import StreamServer

__all__ = ["BaseServer", "DatagramServer", "StreamServer"]
