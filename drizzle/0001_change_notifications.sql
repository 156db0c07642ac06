-- Every change that a verdict depends on is told to every instance in the change's own
-- transaction. A trigger does it, so that no path can forget: not a cascade, not an
-- operator in psql. Payload: "key:<uuid>" or "user:<id>", and for what is new "new key:<uuid>"
-- or "new user:<id>": nothing that is cached can have changed by it.
CREATE FUNCTION latchkey_notify_api_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('latchkey_changes', CASE TG_OP WHEN 'INSERT' THEN 'new key:' ELSE 'key:' END || coalesce(NEW.id, OLD.id));
  RETURN NULL;
END $$;
--> statement-breakpoint
CREATE FUNCTION latchkey_notify_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('latchkey_changes', CASE TG_OP WHEN 'INSERT' THEN 'new user:' ELSE 'user:' END || coalesce(NEW.id, OLD.id));
  RETURN NULL;
END $$;
--> statement-breakpoint
CREATE TRIGGER api_keys_notify AFTER INSERT OR UPDATE OR DELETE ON "api_keys"
  FOR EACH ROW EXECUTE FUNCTION latchkey_notify_api_key();
--> statement-breakpoint
CREATE TRIGGER users_notify AFTER INSERT OR DELETE ON "users"
  FOR EACH ROW EXECUTE FUNCTION latchkey_notify_user();
--> statement-breakpoint
-- Only what a principal shows: editing a bio must not empty caches.
CREATE TRIGGER users_notify_update AFTER UPDATE OF "username", "is_staff", "is_active" ON "users"
  FOR EACH ROW WHEN (
    (OLD.username, OLD.is_staff, OLD.is_active) IS DISTINCT FROM (NEW.username, NEW.is_staff, NEW.is_active)
  )
  EXECUTE FUNCTION latchkey_notify_user();
--> statement-breakpoint
CREATE FUNCTION latchkey_notify_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('latchkey_changes', 'all');
  RETURN NULL;
END $$;
--> statement-breakpoint
CREATE TRIGGER api_keys_notify_truncate AFTER TRUNCATE ON "api_keys"
  FOR EACH STATEMENT EXECUTE FUNCTION latchkey_notify_all();
--> statement-breakpoint
CREATE TRIGGER users_notify_truncate AFTER TRUNCATE ON "users"
  FOR EACH STATEMENT EXECUTE FUNCTION latchkey_notify_all();
