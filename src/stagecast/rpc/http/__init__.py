"""The same RPCs over HTTP/1.1: unary ones by the Connect protocol, watches as server-sent events.

Each request becomes a call like those of gRPC, and takes the same steps; see `pipeline`. So an RPC
that is added to a service is served here as well.
"""

from __future__ import annotations

from stagecast.rpc.http.face import RpcOverHttp

__all__ = ["RpcOverHttp"]
