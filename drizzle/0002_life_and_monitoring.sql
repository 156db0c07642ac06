CREATE TABLE "idempotent_requests" (
	"user_id" bigint NOT NULL,
	"request_id" text NOT NULL,
	"digest" "bytea" NOT NULL,
	"api_key_id" uuid NOT NULL,
	"created_at" timestamp (6) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "idempotent_requests_user_id_request_id_pk" PRIMARY KEY("user_id","request_id")
);
--> statement-breakpoint
-- Not logged: after a crash there is nobody left who has read the half of it.
CREATE UNLOGGED TABLE "request_log_tail" (
	"instance_id" uuid NOT NULL,
	"batch" bigint NOT NULL,
	"committed_at" timestamp (6) with time zone DEFAULT now() NOT NULL,
	"times" timestamp (6) with time zone[] NOT NULL,
	"ids" uuid[] NOT NULL,
	CONSTRAINT "request_log_tail_instance_id_batch_pk" PRIMARY KEY("instance_id","batch")
);
--> statement-breakpoint
CREATE TABLE "request_log_tails" (
	"instance_id" uuid PRIMARY KEY NOT NULL,
	"expires_at" timestamp (6) with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "rollup_late_hours" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "rollup_late_hours_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"hour" timestamp (6) with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "rollup_progress" (
	"id" integer PRIMARY KEY DEFAULT 1 NOT NULL,
	"folded_until" timestamp (6) with time zone,
	CONSTRAINT "rollup_progress_one_row" CHECK ("rollup_progress"."id" = 1)
);
--> statement-breakpoint
CREATE TABLE "rollup_tops" (
	"period_s" integer NOT NULL,
	"bucket" timestamp (6) with time zone NOT NULL,
	"kind" text NOT NULL,
	"rank" integer NOT NULL,
	"user_id" bigint NOT NULL,
	"api_key_id" uuid NOT NULL,
	"requests" bigint NOT NULL,
	"rest" bigint NOT NULL,
	CONSTRAINT "rollup_tops_kind_period_s_bucket_rank_pk" PRIMARY KEY("kind","period_s","bucket","rank")
);
--> statement-breakpoint
DROP INDEX "api_keys_rotated_from_idx";--> statement-breakpoint
DROP INDEX "api_keys_expires_idx";--> statement-breakpoint
DROP INDEX "request_logs_api_key_idx";--> statement-breakpoint
DROP INDEX "request_logs_user_idx";--> statement-breakpoint
ALTER TABLE "api_key_usage" ADD COLUMN "idle_since" date DEFAULT (now() AT TIME ZONE 'UTC')::date NOT NULL;--> statement-breakpoint
UPDATE "api_key_usage" SET "idle_since" = (coalesce("last_used_at", "api_keys"."created_at") AT TIME ZONE 'UTC')::date
  FROM "api_keys" WHERE "api_keys"."id" = "api_key_id";--> statement-breakpoint
ALTER TABLE "api_keys" ADD COLUMN "can_verify" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "api_keys" ADD COLUMN "imported" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "idempotent_requests" ADD CONSTRAINT "idempotent_requests_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "public"."users"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "idempotent_requests" ADD CONSTRAINT "idempotent_requests_api_key_id_api_keys_id_fk" FOREIGN KEY ("api_key_id") REFERENCES "public"."api_keys"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "idempotent_requests_created_idx" ON "idempotent_requests" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "idempotent_requests_api_key_idx" ON "idempotent_requests" USING btree ("api_key_id");--> statement-breakpoint
CREATE INDEX "api_key_usage_idle_idx" ON "api_key_usage" USING btree ("idle_since","api_key_id");--> statement-breakpoint
CREATE UNIQUE INDEX "api_keys_rotated_from_key" ON "api_keys" USING btree ("rotated_from") WHERE "api_keys"."rotated_from" IS NOT NULL;--> statement-breakpoint
CREATE INDEX "api_keys_imported_idx" ON "api_keys" USING btree ("id") WHERE "api_keys"."imported";--> statement-breakpoint
CREATE INDEX "audit_events_actor_api_key_idx" ON "audit_events" USING btree ("actor_api_key_id","id");--> statement-breakpoint
CREATE INDEX "audit_events_action_idx" ON "audit_events" USING btree ("action","id");--> statement-breakpoint
CREATE INDEX "request_logs_method_idx" ON "request_logs" USING btree ("service","method","time","id");--> statement-breakpoint
CREATE INDEX "request_logs_code_idx" ON "request_logs" USING btree ("code","time","id") WHERE "request_logs"."code" <> 0;--> statement-breakpoint
CREATE INDEX "request_logs_denial_idx" ON "request_logs" USING btree ("denial_reason","time","id") WHERE "request_logs"."denial_reason" IS NOT NULL;--> statement-breakpoint
CREATE INDEX "api_keys_expires_idx" ON "api_keys" USING btree ("expires_at","id") WHERE "api_keys"."expires_at" IS NOT NULL AND "api_keys"."revoked_at" IS NULL;--> statement-breakpoint
CREATE INDEX "request_logs_api_key_idx" ON "request_logs" USING btree ("api_key_id","time","id") WHERE "request_logs"."api_key_id" IS NOT NULL;--> statement-breakpoint
CREATE INDEX "request_logs_user_idx" ON "request_logs" USING btree ("user_id","time","id") WHERE "request_logs"."user_id" IS NOT NULL;
--> statement-breakpoint
INSERT INTO "rollup_progress" DEFAULT VALUES;
--> statement-breakpoint
-- The rollups, anew: partitioned by period, the minutes of them by day and the rest by month, so
-- that what is old is dropped and not deleted. Hours and days are folded from the minutes again.
CREATE TEMPORARY TABLE "old_method_rollups" AS SELECT * FROM "method_rollups" WHERE "period_s" = 60;
--> statement-breakpoint
CREATE TEMPORARY TABLE "old_key_rollups" AS SELECT * FROM "key_rollups" WHERE "period_s" = 60;
--> statement-breakpoint
DROP TABLE "method_rollups", "key_rollups";
--> statement-breakpoint
CREATE TABLE "method_rollups" (
	"period_s" integer NOT NULL,
	"bucket" timestamp (6) with time zone NOT NULL,
	"service" text NOT NULL,
	"method" text NOT NULL,
	"code" smallint NOT NULL,
	"denial_reason" text DEFAULT '' NOT NULL,
	"requests" bigint NOT NULL,
	"duration_us" bigint NOT NULL,
	"request_bytes" bigint NOT NULL,
	"response_bytes" bigint NOT NULL,
	"latency" integer[] NOT NULL,
	CONSTRAINT "method_rollups_pk" PRIMARY KEY("period_s","bucket","service","method","code","denial_reason")
) PARTITION BY LIST ("period_s");
--> statement-breakpoint
CREATE TABLE "key_rollups" (
	"period_s" integer NOT NULL,
	"bucket" timestamp (6) with time zone NOT NULL,
	"service" text NOT NULL,
	"method" text NOT NULL,
	"code" smallint NOT NULL,
	"denial_reason" text DEFAULT '' NOT NULL,
	"requests" bigint NOT NULL,
	"duration_us" bigint NOT NULL,
	"request_bytes" bigint NOT NULL,
	"response_bytes" bigint NOT NULL,
	"latency" integer[] NOT NULL,
	"api_key_id" uuid NOT NULL,
	"user_id" bigint NOT NULL,
	CONSTRAINT "key_rollups_pk" PRIMARY KEY("api_key_id","user_id","period_s","bucket","service","method","code","denial_reason")
) PARTITION BY LIST ("period_s");
--> statement-breakpoint
CREATE INDEX "key_rollups_user_idx" ON "key_rollups" USING btree ("user_id","period_s","bucket");--> statement-breakpoint
CREATE INDEX "key_rollups_bucket_idx" ON "key_rollups" USING btree ("period_s","bucket");--> statement-breakpoint
CREATE TABLE "method_rollups_minutes" PARTITION OF "method_rollups" FOR VALUES IN (60) PARTITION BY RANGE ("bucket");--> statement-breakpoint
CREATE TABLE "method_rollups_minutes_default" PARTITION OF "method_rollups_minutes" DEFAULT;--> statement-breakpoint
CREATE TABLE "method_rollups_hours" PARTITION OF "method_rollups" FOR VALUES IN (3600) PARTITION BY RANGE ("bucket");--> statement-breakpoint
CREATE TABLE "method_rollups_hours_default" PARTITION OF "method_rollups_hours" DEFAULT;--> statement-breakpoint
CREATE TABLE "method_rollups_days" PARTITION OF "method_rollups" FOR VALUES IN (86400) PARTITION BY RANGE ("bucket");--> statement-breakpoint
CREATE TABLE "method_rollups_days_default" PARTITION OF "method_rollups_days" DEFAULT;--> statement-breakpoint
CREATE TABLE "key_rollups_minutes" PARTITION OF "key_rollups" FOR VALUES IN (60) PARTITION BY RANGE ("bucket");--> statement-breakpoint
CREATE TABLE "key_rollups_minutes_default" PARTITION OF "key_rollups_minutes" DEFAULT;--> statement-breakpoint
CREATE TABLE "key_rollups_hours" PARTITION OF "key_rollups" FOR VALUES IN (3600) PARTITION BY RANGE ("bucket");--> statement-breakpoint
CREATE TABLE "key_rollups_hours_default" PARTITION OF "key_rollups_hours" DEFAULT;--> statement-breakpoint
CREATE TABLE "key_rollups_days" PARTITION OF "key_rollups" FOR VALUES IN (86400) PARTITION BY RANGE ("bucket");--> statement-breakpoint
CREATE TABLE "key_rollups_days_default" PARTITION OF "key_rollups_days" DEFAULT;--> statement-breakpoint
INSERT INTO "method_rollups" (period_s, bucket, service, method, code, denial_reason, requests, duration_us, request_bytes, response_bytes, latency)
  SELECT period_s, bucket, service, method, code, denial_reason, requests, duration_us, request_bytes, response_bytes, latency FROM "old_method_rollups";
--> statement-breakpoint
INSERT INTO "key_rollups" (period_s, bucket, service, method, code, requests, duration_us, request_bytes, response_bytes, latency, api_key_id, user_id)
  SELECT period_s, bucket, service, method, code, requests, duration_us, request_bytes, response_bytes, latency, api_key_id, user_id FROM "old_key_rollups";
--> statement-breakpoint
DROP TABLE "old_method_rollups", "old_key_rollups";
