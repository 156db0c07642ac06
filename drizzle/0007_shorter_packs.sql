-- Nobody adds one of before meanwhile.
LOCK TABLE "request_log_packs" IN ACCESS EXCLUSIVE MODE;--> statement-breakpoint
-- Ids are in two columns now, and addresses are named by number: of what waits, each row has its own.
UPDATE "request_log_packs" SET "columns" = (
	SELECT ARRAY[
		"columns"[2], "columns"[3], CASE "columns"[5] WHEN '{}' THEN '{}' ELSE "numbers"::text END, "numbers"::text,
		"columns"[4], "columns"[6], "columns"[7], "counters"::text
	] || "columns"[8:20] || ARRAY["columns"[5], "heads"::text, "tails"::text]
	FROM (
		SELECT array_agg("n" ORDER BY "n") AS "numbers",
			array_agg(('x' || substr("id", 15, 4))::bit(16)::int ORDER BY "n") AS "counters",
			array_agg(substr("id", 1, 14) ORDER BY "n") AS "heads",
			array_agg(substr("id", 19) ORDER BY "n") AS "tails"
		FROM unnest("columns"[1]::text[]) WITH ORDINALITY AS "ids" ("id", "n")
	) AS "split"
);--> statement-breakpoint
ALTER TABLE "request_log_packs" ADD CONSTRAINT "request_log_packs_columns_check" CHECK (cardinality("request_log_packs"."columns") = 24);