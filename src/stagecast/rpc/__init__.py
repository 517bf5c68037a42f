"""The gRPC server."""

from __future__ import annotations

from stagecast.rpc.server import RpcServer

__all__ = ["RpcServer"]
