-- Nobody could sign in before.
DELETE FROM "sessions";
--> statement-breakpoint
DROP INDEX "sessions_user_idx";--> statement-breakpoint
ALTER TABLE "instances" ADD COLUMN "stopped_at" timestamp (6) with time zone;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "seen_at" timestamp (6) with time zone DEFAULT now() NOT NULL;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "ends_at" timestamp (6) with time zone NOT NULL;--> statement-breakpoint
CREATE INDEX "api_keys_name_idx" ON "api_keys" USING btree (lower("name"),"id");--> statement-breakpoint
CREATE INDEX "api_keys_expiry_idx" ON "api_keys" USING btree (coalesce("expires_at", 'infinity'),"id");--> statement-breakpoint
CREATE INDEX "sessions_user_idx" ON "sessions" USING btree ("user_id","id");
--> statement-breakpoint
-- A session that ends before its time is told to every instance, as a key's changes are. Its use is
-- not, which only moves its end on.
CREATE FUNCTION latchkey_notify_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('latchkey_changes', 'session:' || OLD.id);
  RETURN NULL;
END $$;
--> statement-breakpoint
CREATE TRIGGER sessions_notify_delete AFTER DELETE ON "sessions"
  FOR EACH ROW WHEN (OLD.expires_at > now()) EXECUTE FUNCTION latchkey_notify_session();
--> statement-breakpoint
CREATE TRIGGER sessions_notify_update AFTER UPDATE ON "sessions"
  FOR EACH ROW WHEN (NEW.expires_at < OLD.expires_at) EXECUTE FUNCTION latchkey_notify_session();
--> statement-breakpoint
CREATE TRIGGER sessions_notify_truncate AFTER TRUNCATE ON "sessions"
  FOR EACH STATEMENT EXECUTE FUNCTION latchkey_notify_all();
--> statement-breakpoint
-- A user who is disabled is signed out for good: no session lives again with the user.
CREATE FUNCTION latchkey_end_sessions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM sessions WHERE user_id = NEW.id;
  RETURN NULL;
END $$;
--> statement-breakpoint
CREATE TRIGGER users_end_sessions AFTER UPDATE OF "is_active" ON "users"
  FOR EACH ROW WHEN (OLD.is_active AND NOT NEW.is_active) EXECUTE FUNCTION latchkey_end_sessions();
