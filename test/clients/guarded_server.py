"""A service that knows nothing of API keys, guarded by the proxy before it.

    python guarded_server.py

It serves billing.v1.InvoiceService over gRPC and answers any GET and DELETE over
HTTP/1.1; either says what it was called with, as JSON. It prints its two ports,
and ends when its standard input does.
"""

import json
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc


def seen(method, context):
    metadata = [
        [key, value if isinstance(value, str) else value.hex()]
        for key, value in context.invocation_metadata()
    ]
    return json.dumps({"called": method, "headers": metadata}).encode()


def unary(method):
    return grpc.unary_unary_rpc_method_handler(lambda request, context: seen(method, context))


def watch(request, context):
    for _ in range(3):
        yield seen("Watch", context)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
server.add_generic_rpc_handlers(
    [
        grpc.method_handlers_generic_handler(
            "billing.v1.InvoiceService",
            {
                "Pay": unary("Pay"),
                "Void": unary("Void"),
                "Watch": grpc.unary_stream_rpc_method_handler(watch),
            },
        ),
        grpc.method_handlers_generic_handler("billing.v1.StatusService", {"Get": unary("Get")}),
    ]
)
grpc_port = server.add_insecure_port("127.0.0.1:0")
server.start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        body = json.dumps({"called": f"{self.command} {self.path}", "headers": headers}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_DELETE = answer

    def log_message(self, *args):
        pass


http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=http.serve_forever, daemon=True).start()

print(json.dumps({"grpc": grpc_port, "rest": http.server_port}), flush=True)
sys.stdin.read()
server.stop(None)
