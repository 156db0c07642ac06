CREATE TABLE "request_log_packs" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "request_log_packs_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"instance_id" uuid NOT NULL,
	"committed_at" timestamp (6) with time zone DEFAULT now() NOT NULL,
	"rows" integer NOT NULL,
	"base_ms" bigint NOT NULL,
	"columns" text[] NOT NULL
);
--> statement-breakpoint
ALTER TABLE "request_log_tail" ADD COLUMN "packed_rows" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
-- Compressing it would take longer than all else that writing it does.
ALTER TABLE "request_log_packs" ALTER COLUMN "columns" SET STORAGE EXTERNAL;
