/** What `latchkey doctor` finds out about the database. Nothing is started and nothing is written. */
import type { Config } from "../config.ts";
import { type DatabaseAddress, describeAddress } from "../db/address.ts";
import { lookAtEmbedded } from "../db/embedded/look.ts";
import { type DatabaseState, hearsChanges, lookAtDatabase } from "../db/look.ts";
import { packageVersion } from "../version.ts";
import { explain } from "./explain.ts";
import { type Finding, ok, warning, wrong } from "./finding.ts";

const what = "database";
const oldestPostgres = 14;
/** Of one instance. */
const connectionsNeeded = 21;
const pastPooler = "set LATCHKEY_LISTEN_DATABASE_URL to the database's own address, past the pooler";

/** Looks at the database that the settings name. */
export async function checkDatabase(config: Config): Promise<Finding[]> {
  try {
    return config.databaseUrl === undefined
      ? await checkEmbedded(config)
      : await checkServer(config, config.databaseUrl);
  } catch (error) {
    // It says what to do, where that is known.
    const found = explain(error, config);
    const isPooler = /unsupported startup parameter/.test(found) && config.listenDatabaseUrl === undefined;
    return [wrong(what, found, isPooler ? pastPooler : "start it or mend the setting, then ask again")];
  }
}

async function checkEmbedded({ dataDir }: Config): Promise<Finding[]> {
  const { dataMajor, version, running } = await lookAtEmbedded(dataDir);
  if (running === undefined) {
    const found =
      dataMajor === undefined
        ? `none yet in ${dataDir}: the first latchkey serve makes one, with Postgres ${version}`
        : `Postgres ${dataMajor} in ${dataDir}, which does not run: latchkey serve starts it`;
    return [ok(what, found)];
  }
  const state = await lookAtDatabase(running.address, false);
  const found = `Postgres ${state.version} in ${dataDir}, process ${running.pid}`;
  return [ok(what, found), ...checkState(state, false)];
}

async function checkServer(config: Config, url: string): Promise<Finding[]> {
  const address: DatabaseAddress = { url };
  const pooled = config.listenDatabaseUrl !== undefined;
  const state = await lookAtDatabase(address, pooled);
  const name = describeAddress({ url });
  if (state.major < oldestPostgres) {
    return [
      wrong(what, `${name} is Postgres ${state.version}`, `take one of version ${oldestPostgres} or newer`),
    ];
  }
  const listenAddress = { url: config.listenDatabaseUrl ?? url };
  const hears = await hearsChanges(address, listenAddress, pooled);
  const news = hears
    ? ok("news", "a change is heard where LISTEN connects")
    : wrong(
        "news",
        "a change is not heard where LISTEN connects: revocations would wait for LATCHKEY_CACHE_MAX_STALENESS_MS",
        pastPooler,
      );
  return [ok(what, `${name}, Postgres ${state.version}`), ...checkState(state, true), news];
}

function checkState(state: DatabaseState, isServer: boolean): Finding[] {
  return [
    checkMigrations(state.migrations),
    checkClock(state.clockAheadMs),
    ...(isServer ? [checkConnections(state.connections)] : []),
    ...checkStaff(state.activeStaff),
    ...checkRunning(state.runningVersions),
  ];
}

function checkMigrations({ known, applied, hasNewer }: DatabaseState["migrations"]): Finding {
  const found = `${applied} of ${known} applied`;
  if (hasNewer) {
    const advice = "use the version that migrated it, or a newer one";
    return wrong(
      "migrations",
      `the database was migrated by a newer Latchkey than ${packageVersion}`,
      advice,
    );
  }
  if (applied === known) return ok("migrations", found);
  return warning("migrations", found, "the next latchkey serve applies the rest: stop older ones before");
}

function checkClock(aheadMs: number): Finding {
  const seconds = Math.abs(aheadMs / 1000).toFixed(1);
  const found = `the database's is ${seconds} s ${aheadMs < 0 ? "behind" : "ahead"}`;
  if (Math.abs(aheadMs) < 1000) return ok("clock", found);
  const advice = "keep both by NTP: expiry, statistics and retention go by them";
  return (Math.abs(aheadMs) < 60_000 ? warning : wrong)("clock", found, advice);
}

function checkConnections({ most, used }: DatabaseState["connections"]): Finding {
  const found = `${used} of ${most} in use`;
  if (most - used >= connectionsNeeded) return ok("connections", found);
  return warning("connections", found, `an instance opens up to ${connectionsNeeded}: raise max_connections`);
}

function checkStaff(count: number | undefined): Finding[] {
  if (count === undefined || count > 0) return [];
  return [warning("users", "no staff user is active", "latchkey bootstrap makes one, with a key")];
}

function checkRunning(versions: readonly string[]): Finding[] {
  if (versions.length === 0) return [];
  const found = `version ${versions.join(" and ")}`;
  const others = versions.filter((version) => version !== packageVersion);
  if (others.length === 0) return [ok("instances", found)];
  return [warning("instances", `${found} run, this is ${packageVersion}`, "bring all to one version")];
}
