/** The services that this version of Latchkey knows by itself, for servers that have no reflection. */
import { createRegistry, type Registry } from "@bufbuild/protobuf";
import { file_api_users_user_service } from "../gen/api/users/user_service_pb.js";
import { file_google_rpc_error_details } from "../gen/google/rpc/error_details_pb.js";
import { file_health_v1_health } from "../gen/health/v1/health_pb.js";
import { file_latchkey_v1_api_key_service } from "../gen/latchkey/v1/api_key_service_pb.js";
import { file_latchkey_v1_audit_log_service } from "../gen/latchkey/v1/audit_log_service_pb.js";
import { file_latchkey_v1_request_log_service } from "../gen/latchkey/v1/request_log_service_pb.js";
import { file_latchkey_v1_server_service } from "../gen/latchkey/v1/server_service_pb.js";
import { file_latchkey_v1_session_service } from "../gen/latchkey/v1/session_service_pb.js";
import { file_latchkey_v1_stats_service } from "../gen/latchkey/v1/stats_service_pb.js";
import { file_latchkey_v1_user_admin_service } from "../gen/latchkey/v1/user_admin_service_pb.js";

export const ownServices: Registry = createRegistry(
  file_api_users_user_service,
  file_health_v1_health,
  file_latchkey_v1_api_key_service,
  file_latchkey_v1_audit_log_service,
  file_latchkey_v1_request_log_service,
  file_latchkey_v1_server_service,
  file_latchkey_v1_session_service,
  file_latchkey_v1_stats_service,
  file_latchkey_v1_user_admin_service,
  file_google_rpc_error_details,
);
