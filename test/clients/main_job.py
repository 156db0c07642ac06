"""Does the main job as a program in Python would, and prints what it saw as JSON.

    python main_job.py GENERATED_DIR HOST:PORT SECRET_KEY

It creates a user and a key, makes every kind of call with the key, and reads
back, until they agree, the key's request count and its request log.
"""

import base64
import json
import sys
import time

generated, target, secret_key = sys.argv[1:]
sys.path.insert(0, generated)

import grpc  # noqa: E402
from api.users import user_service_pb2 as users  # noqa: E402
from api.users import user_service_pb2_grpc as users_grpc  # noqa: E402
from latchkey.v1 import access_pb2 as access  # noqa: E402
from latchkey.v1 import api_key_service_pb2 as keys  # noqa: E402
from latchkey.v1 import api_key_service_pb2_grpc as keys_grpc  # noqa: E402
from latchkey.v1 import request_log_service_pb2 as logs  # noqa: E402
from latchkey.v1 import request_log_service_pb2_grpc as logs_grpc  # noqa: E402

channel = grpc.insecure_channel(target)
user_service = users_grpc.UserServiceStub(channel)
key_service = keys_grpc.ApiKeyServiceStub(channel)
log_service = logs_grpc.RequestLogServiceStub(channel)
staff = {"metadata": [("x-api-key", secret_key)], "timeout": 20}
seen = {"user_agent_version": grpc.__version__, "failures": {}}


def failure(call):
    """The error that a call ends with, as its caller sees it."""
    try:
        result = call()
        if not hasattr(result, "DESCRIPTOR"):
            list(result)
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata() or [])
        details = trailers.get("grpc-status-details-bin", b"")
        return {
            "code": error.code().name,
            "message": error.details(),
            "details": base64.b64encode(details).decode(),
            "challenge": trailers.get("www-authenticate", ""),
        }
    return None


user = user_service.CreateUser(
    users.CreateUserRequest(username="guido", email="guido@example.com"), **staff
)
created = key_service.CreateApiKey(
    keys.CreateApiKeyRequest(user_id=user.id, name="python"), **staff
)
seen["user_id"] = user.id
seen["api_key_id"] = created.api_key.id
seen["token"] = created.token

key = {"metadata": [("x-api-key", created.token)], "timeout": 20}
bearer = {"metadata": [("authorization", f"Bearer {created.token}")], "timeout": 20}
get_user = users.GetUserRequest(user_id=user.id)

seen["email"] = user_service.GetUser(get_user, **key).email
seen["email_by_bearer"] = user_service.GetUser(get_user, **bearer).email
seen["email_anonymous"] = user_service.GetUser(get_user, timeout=20).email
seen["bio"] = user_service.UpdateProfile(users.UpdateProfileRequest(bio="été — 夏"), **key).bio
seen["bio_by_gzip"] = user_service.UpdateProfile(
    users.UpdateProfileRequest(bio="z" * 2000), compression=grpc.Compression.Gzip, **key
).bio
seen["listed"] = len(list(user_service.ListUsers(users.ListUsersRequest(limit=50), **key)))

stream = user_service.ListUsers(users.ListUsersRequest(limit=1000), **key)
next(stream)
stream.cancel()
seen["failures"]["canceled"] = failure(lambda: stream)

seen["failures"]["staff"] = failure(
    lambda: user_service.DeleteUser(users.DeleteUserRequest(user_id=user.id), **key)
)
seen["failures"]["not_found"] = failure(
    lambda: user_service.GetUser(users.GetUserRequest(user_id=2**62), **key)
)
# More than the server takes, but for which the client's own limit would not do.
seen["failures"]["too_large"] = failure(
    lambda: user_service.UpdateProfile(users.UpdateProfileRequest(bio="x" * 5_000_000), **key)
)
seen["failures"]["missing"] = failure(
    lambda: user_service.UpdateProfile(users.UpdateProfileRequest(), timeout=20)
)
seen["failures"]["unknown"] = failure(
    lambda: user_service.UpdateProfile(
        users.UpdateProfileRequest(), metadata=[("x-api-key", "lk_no")], timeout=20
    )
)
seen["failures"]["no_method"] = failure(
    lambda: channel.unary_unary("/api.users.UserService/Absent")(b"", timeout=20)
)

with_key = 9
deadline = time.monotonic() + 20
while True:
    api_key = key_service.GetApiKey(
        keys.GetApiKeyRequest(id=created.api_key.id), **staff
    ).api_key
    if api_key.request_count >= with_key or time.monotonic() > deadline:
        break
seen["request_count"] = api_key.request_count
listed = log_service.ListRequestLogs(
    logs.ListRequestLogsRequest(filter=logs.RequestLogFilter(api_key_id=created.api_key.id)), **staff
)
seen["request_logs"] = [
    {
        "method": row.method,
        "code": row.code,
        "protocol": row.protocol,
        "user_id": row.user_id,
        "peer": row.peer_address,
        "agent": row.user_agent,
        "positive": row.duration.ToNanoseconds() > 0 and row.request_bytes > 0,
    }
    for row in reversed(listed.request_logs)
]

key_service.RevokeApiKey(keys.RevokeApiKeyRequest(id=created.api_key.id), **staff)
deadline = time.monotonic() + 20
while True:
    refused = failure(lambda: user_service.GetUser(get_user, **key))
    if refused is not None or time.monotonic() > deadline:
        break
seen["failures"]["revoked"] = refused

methods = users.DESCRIPTOR.services_by_name["UserService"].methods_by_name
seen["access"] = {
    name: access.AccessLevel.Name(method.GetOptions().Extensions[access.access].level)
    for name, method in methods.items()
}

channel.close()
print(json.dumps(seen))
