CREATE TYPE "public"."api_key_type" AS ENUM('service', 'cli', 'webhook', 'internal', 'development');--> statement-breakpoint
CREATE TYPE "public"."revocation_reason" AS ENUM('unspecified', 'unused', 'rotated', 'compromised', 'user_ended');--> statement-breakpoint
CREATE TABLE "api_key_usage" (
	"api_key_id" uuid PRIMARY KEY NOT NULL,
	"request_count" bigint DEFAULT 0 NOT NULL,
	"last_used_at" timestamp (6) with time zone
) WITH (fillfactor = 50);
--> statement-breakpoint
CREATE TABLE "api_keys" (
	"id" uuid PRIMARY KEY NOT NULL,
	"user_id" bigint NOT NULL,
	"name" text NOT NULL,
	"description" text DEFAULT '' NOT NULL,
	"type" "api_key_type" NOT NULL,
	"hash" "bytea" NOT NULL,
	"start" text NOT NULL,
	"allowed_methods" text[] DEFAULT '{}' NOT NULL,
	"allowed_addresses" text[] DEFAULT '{}' NOT NULL,
	"expires_at" timestamp (6) with time zone,
	"revoked_at" timestamp (6) with time zone,
	"revocation_reason" "revocation_reason",
	"revocation_note" text,
	"rotated_from" uuid,
	"created_by" bigint,
	"created_at" timestamp (6) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (6) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "audit_events" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "audit_events_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"time" timestamp (6) with time zone DEFAULT now() NOT NULL,
	"actor_user_id" bigint,
	"actor_api_key_id" uuid,
	"action" text NOT NULL,
	"target_user_id" bigint,
	"target_api_key_id" uuid,
	"before" jsonb,
	"after" jsonb,
	"peer_address" "inet",
	"request_id" text
);
--> statement-breakpoint
CREATE TABLE "instances" (
	"id" uuid PRIMARY KEY NOT NULL,
	"hostname" text NOT NULL,
	"pid" integer NOT NULL,
	"version" text NOT NULL,
	"started_at" timestamp (6) with time zone NOT NULL,
	"seen_at" timestamp (6) with time zone NOT NULL,
	"last_batch" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "instances_last_batch_check" CHECK ("instances"."last_batch" >= 0)
);
--> statement-breakpoint
CREATE TABLE "key_rollups" (
	"period_s" integer NOT NULL,
	"bucket" timestamp (6) with time zone NOT NULL,
	"service" text NOT NULL,
	"method" text NOT NULL,
	"code" smallint NOT NULL,
	"requests" bigint NOT NULL,
	"duration_us" bigint NOT NULL,
	"request_bytes" bigint NOT NULL,
	"response_bytes" bigint NOT NULL,
	"latency" integer[] NOT NULL,
	"api_key_id" uuid NOT NULL,
	"user_id" bigint NOT NULL,
	CONSTRAINT "key_rollups_api_key_id_period_s_bucket_service_method_code_pk" PRIMARY KEY("api_key_id","period_s","bucket","service","method","code")
);
--> statement-breakpoint
CREATE TABLE "method_rollups" (
	"period_s" integer NOT NULL,
	"bucket" timestamp (6) with time zone NOT NULL,
	"service" text NOT NULL,
	"method" text NOT NULL,
	"code" smallint NOT NULL,
	"requests" bigint NOT NULL,
	"duration_us" bigint NOT NULL,
	"request_bytes" bigint NOT NULL,
	"response_bytes" bigint NOT NULL,
	"latency" integer[] NOT NULL,
	"denial_reason" text DEFAULT '' NOT NULL,
	CONSTRAINT "method_rollups_period_s_bucket_service_method_code_denial_reason_pk" PRIMARY KEY("period_s","bucket","service","method","code","denial_reason")
);
--> statement-breakpoint
CREATE TABLE "request_logs" (
	"time" timestamp (6) with time zone NOT NULL,
	"id" uuid NOT NULL,
	"service" text NOT NULL,
	"method" text NOT NULL,
	"protocol" text NOT NULL,
	"code" smallint NOT NULL,
	"denial_reason" text,
	"user_id" bigint,
	"api_key_id" uuid,
	"credential_kind" text NOT NULL,
	"duration_us" bigint NOT NULL,
	"request_bytes" bigint,
	"response_bytes" bigint,
	"peer_address" "inet",
	"user_agent" text DEFAULT '' NOT NULL,
	"request_id" text NOT NULL,
	"instance_id" uuid NOT NULL,
	"error_message" text,
	"trace_id" text,
	CONSTRAINT "request_logs_time_id_pk" PRIMARY KEY("time","id")
) PARTITION BY RANGE ("time");
--> statement-breakpoint
-- Catches a row whose day has no partition yet, so that a clock jump or a long stop loses none.
CREATE TABLE "request_logs_default" PARTITION OF "request_logs" DEFAULT;
--> statement-breakpoint
CREATE TABLE "sessions" (
	"id" uuid PRIMARY KEY NOT NULL,
	"hash" "bytea" NOT NULL,
	"user_id" bigint NOT NULL,
	"api_key_id" uuid,
	"created_at" timestamp (6) with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp (6) with time zone NOT NULL,
	"peer_address" "inet",
	"user_agent" text DEFAULT '' NOT NULL
);
--> statement-breakpoint
CREATE TABLE "users" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "users_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"username" text NOT NULL,
	"username_key" text NOT NULL,
	"email" text DEFAULT '' NOT NULL,
	"bio" text DEFAULT '' NOT NULL,
	"is_staff" boolean DEFAULT false NOT NULL,
	"is_active" boolean DEFAULT true NOT NULL,
	"created_at" timestamp (6) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (6) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "api_key_usage" ADD CONSTRAINT "api_key_usage_api_key_id_api_keys_id_fk" FOREIGN KEY ("api_key_id") REFERENCES "public"."api_keys"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "api_keys" ADD CONSTRAINT "api_keys_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "public"."users"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "sessions" ADD CONSTRAINT "sessions_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "public"."users"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "sessions" ADD CONSTRAINT "sessions_api_key_id_api_keys_id_fk" FOREIGN KEY ("api_key_id") REFERENCES "public"."api_keys"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "api_keys_hash_key" ON "api_keys" USING btree ("hash");--> statement-breakpoint
CREATE INDEX "api_keys_user_idx" ON "api_keys" USING btree ("user_id","id");--> statement-breakpoint
CREATE INDEX "api_keys_expires_idx" ON "api_keys" USING btree ("expires_at") WHERE "api_keys"."expires_at" IS NOT NULL;--> statement-breakpoint
CREATE INDEX "api_keys_rotated_from_idx" ON "api_keys" USING btree ("rotated_from") WHERE "api_keys"."rotated_from" IS NOT NULL;--> statement-breakpoint
CREATE INDEX "audit_events_target_api_key_idx" ON "audit_events" USING btree ("target_api_key_id","id");--> statement-breakpoint
CREATE INDEX "audit_events_target_user_idx" ON "audit_events" USING btree ("target_user_id","id");--> statement-breakpoint
CREATE INDEX "audit_events_actor_user_idx" ON "audit_events" USING btree ("actor_user_id","id");--> statement-breakpoint
CREATE INDEX "audit_events_time_idx" ON "audit_events" USING btree ("time");--> statement-breakpoint
CREATE INDEX "key_rollups_user_idx" ON "key_rollups" USING btree ("user_id","period_s","bucket");--> statement-breakpoint
CREATE INDEX "key_rollups_bucket_idx" ON "key_rollups" USING btree ("period_s","bucket");--> statement-breakpoint
CREATE INDEX "request_logs_api_key_idx" ON "request_logs" USING btree ("api_key_id","time","id");--> statement-breakpoint
CREATE INDEX "request_logs_user_idx" ON "request_logs" USING btree ("user_id","time","id");--> statement-breakpoint
CREATE UNIQUE INDEX "sessions_hash_key" ON "sessions" USING btree ("hash");--> statement-breakpoint
CREATE INDEX "sessions_user_idx" ON "sessions" USING btree ("user_id");--> statement-breakpoint
CREATE INDEX "sessions_api_key_idx" ON "sessions" USING btree ("api_key_id");--> statement-breakpoint
CREATE INDEX "sessions_expires_idx" ON "sessions" USING btree ("expires_at");--> statement-breakpoint
CREATE UNIQUE INDEX "users_username_key" ON "users" USING btree ("username_key");--> statement-breakpoint
CREATE INDEX "users_active_staff_idx" ON "users" USING btree ("id") WHERE "users"."is_staff" AND "users"."is_active";