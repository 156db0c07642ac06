/** The settings: defaults, what each takes, and what is said of the rest. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Config, ConfigError, readConfig, showSettings, withDefaults } from "../src/config.ts";

const defaults: Config = {
  host: "127.0.0.1",
  port: 50051,
  databaseUrl: undefined,
  listenDatabaseUrl: undefined,
  dataDir: ".latchkey",
  authEnabled: true,
  requireAuth: false,
  requireDeclaredAccess: false,
  apiKeyHeader: "x-api-key",
  tokenPrefix: "lk",
  acceptSecretKey: true,
  secretKey: undefined,
  publicMethods: [],
  reflection: true,
  usageDurability: "batched",
  logRetentionDays: 30,
  statsRetentionDays: 400,
  logPackAbove: 15_000,
  logInfrastructure: false,
  cacheMaxStalenessMs: 2000,
  cacheStaleIfErrorMs: 0,
  cacheMaxEntries: 100_000,
  trustedProxies: [],
  forwardAuthPath: undefined,
  corsOrigins: [],
  tlsCert: undefined,
  tlsKey: undefined,
  console: true,
  sessionMaxHours: 12,
  sessionIdleMinutes: 60,
  maxMessageBytes: 4_194_304,
  maxHeaderBytes: 16_384,
  maxStreamsPerConnection: 256,
  streamResetBurst: 1000,
  streamResetRate: 33,
  maxConcurrentRpcs: 10_000,
  leanUnary: true,
  maxUnaryMs: 60_000,
  shutdownTimeoutMs: 10_000,
  workers: 1,
  metricsPort: undefined,
  metricsHost: "127.0.0.1",
  logLevel: "info",
  production: false,
};

/** What a setting alone would be refused without. */
const companions: Record<string, Record<string, string>> = {
  LATCHKEY_LISTEN_DATABASE_URL: { DATABASE_URL: "postgres://db/keys" },
  LATCHKEY_WORKERS: { DATABASE_URL: "postgres://db/keys" },
  LATCHKEY_TLS_CERT: { LATCHKEY_TLS_KEY: "key.pem" },
  LATCHKEY_TLS_KEY: { LATCHKEY_TLS_CERT: "cert.pem" },
};
const companionFields: Record<string, Partial<Config>> = {
  LATCHKEY_LISTEN_DATABASE_URL: { databaseUrl: "postgres://db/keys" },
  LATCHKEY_WORKERS: { databaseUrl: "postgres://db/keys" },
  LATCHKEY_TLS_CERT: { tlsKey: "key.pem" },
  LATCHKEY_TLS_KEY: { tlsCert: "cert.pem" },
};
const read = (name: string, value: string) => readConfig({ ...companions[name], [name]: value });

test("an empty environment gives every setting its default", () => {
  assert.deepEqual(readConfig({}), defaults);
});

test("production differs from the default in the secret key and reflection alone", () => {
  const production = { ...defaults, production: true, acceptSecretKey: false, reflection: false };
  assert.deepEqual(readConfig({ NODE_ENV: "production" }), production);
  assert.deepEqual(withDefaults({ production: true }), production);
  for (const NODE_ENV of ["", "development", "test", undefined]) {
    assert.deepEqual(readConfig({ NODE_ENV }), defaults);
  }
});

const numbers = (min: number, max: number) =>
  [
    [String(min), min],
    [String(max), max],
  ] as const;
const truths = [
  ["true", true],
  ["1", true],
  ["yes", true],
  ["ON", true],
  ["false", false],
  ["0", false],
  ["no", false],
  ["Off", false],
] as const;
const maxInt = 2 ** 31 - 1;
const notNumbers = ["-1", "1.5", "1e3", "0x10", " 1", "one", "99999999999999999999"];
const notTruths = ["maybe", "2", "truee", " true"];
const urls = [
  "postgres://db",
  "postgres://db/keys",
  "postgresql://ada@db:5432/keys",
  "postgres://ada:s%40cr%2Ft@db:5432/keys?sslmode=require",
  "postgres://ada:p:a$s!@db.example.com/keys",
  "postgres://db1:5432,db2:5432/keys?target_session_attrs=primary",
  "postgres://[::1]:5432/keys",
  "postgres://latchkey@localhost/keys?host=/var/run/postgresql",
  "postgres:///keys?host=/var/run/postgresql",
].map((url) => [url, url] as const);
const notUrls = ["db", "mysql://db/keys", "postgres:/db", "http://db/keys", "postgres://db /keys"];

/** Each setting: its field, values that it takes with what they become, values that it refuses. */
const settings: readonly (readonly [
  name: string,
  field: keyof Config,
  good: readonly (readonly [string, unknown])[],
  bad: readonly string[],
])[] = [
  [
    "HOST",
    "host",
    [
      ["0.0.0.0", "0.0.0.0"],
      ["::", "::"],
      ["localhost", "localhost"],
    ],
    [],
  ],
  ["PORT", "port", numbers(0, 65535), [...notNumbers, "65536"]],
  ["DATABASE_URL", "databaseUrl", urls, notUrls],
  ["LATCHKEY_LISTEN_DATABASE_URL", "listenDatabaseUrl", urls, notUrls],
  ["LATCHKEY_DATA_DIR", "dataDir", [["/var/lib/keys", "/var/lib/keys"]], []],
  ["LATCHKEY_AUTH_ENABLED", "authEnabled", truths, notTruths],
  ["LATCHKEY_REQUIRE_AUTH", "requireAuth", truths, notTruths],
  ["LATCHKEY_REQUIRE_DECLARED_ACCESS", "requireDeclaredAccess", truths, notTruths],
  ["LATCHKEY_LEAN_UNARY", "leanUnary", truths, notTruths],
  [
    "LATCHKEY_API_KEY_HEADER",
    "apiKeyHeader",
    [["X-Token", "x-token"]],
    ["authorization", "Authorization", "x key", "x:key", "-x", "x_key", "x\nkey"],
  ],
  [
    "LATCHKEY_TOKEN_PREFIX",
    "tokenPrefix",
    [
      ["a", "a"],
      ["acme_live2", "acme_live2"],
      ["a234567890123456", "a234567890123456"],
    ],
    ["Acme", "1a", "_a", "a-b", "a2345678901234567", "é"],
  ],
  ["LATCHKEY_ACCEPT_SECRET_KEY", "acceptSecretKey", truths, notTruths],
  [
    "LATCHKEY_SECRET_KEY",
    "secretKey",
    [
      ["0123456789abcdef", "0123456789abcdef"],
      ["!".repeat(512), "!".repeat(512)],
    ],
    ["0123456789abcde", "x".repeat(513), "0123456789 abcdef", "0123456789abcdefé"],
  ],
  [
    "LATCHKEY_PUBLIC_METHODS",
    "publicMethods",
    [
      ["a.B/C", ["a.B/C"]],
      [" a.b.C/* , D/e_1,,", ["a.b.C/*", "D/e_1"]],
      [",", []],
    ],
    ["a.B", "a.B/", "/C", "*", "a.B/C*", "a.B/C/D", "a.B/C;d.E/F"],
  ],
  ["LATCHKEY_REFLECTION", "reflection", truths, notTruths],
  [
    "LATCHKEY_USAGE_DURABILITY",
    "usageDurability",
    [
      ["strict", "strict"],
      ["batched", "batched"],
    ],
    ["Strict", "none"],
  ],
  ["LATCHKEY_LOG_RETENTION_DAYS", "logRetentionDays", numbers(1, 3650), [...notNumbers, "0", "3651"]],
  [
    "LATCHKEY_STATS_RETENTION_DAYS",
    "statsRetentionDays",
    numbers(31, 36_500),
    [...notNumbers, "30", "36501"],
  ],
  [
    "LATCHKEY_LOG_PACK_ABOVE",
    "logPackAbove",
    numbers(0, 1_000_000_000),
    [...notNumbers.filter((one) => one !== "0"), "1000000001"],
  ],
  ["LATCHKEY_LOG_INFRASTRUCTURE", "logInfrastructure", truths, notTruths],
  [
    "LATCHKEY_CACHE_MAX_STALENESS_MS",
    "cacheMaxStalenessMs",
    numbers(100, 60_000),
    [...notNumbers, "99", "60001"],
  ],
  ["LATCHKEY_CACHE_STALE_IF_ERROR_MS", "cacheStaleIfErrorMs", numbers(0, maxInt), notNumbers],
  ["LATCHKEY_CACHE_MAX_ENTRIES", "cacheMaxEntries", numbers(1, 100_000_000), [...notNumbers, "0"]],
  [
    "LATCHKEY_FORWARD_AUTH_PATH",
    "forwardAuthPath",
    [
      ["/auth", "/auth"],
      ["/internal/latchkey-verdict", "/internal/latchkey-verdict"],
    ],
    ["auth", "/", "/auth/", "//auth", "/auth?x", "/:auth", "/*", "/auth/..", "/a b", "http://host/auth"],
  ],
  [
    "LATCHKEY_TRUSTED_PROXIES",
    "trustedProxies",
    [
      ["10.0.0.1", ["10.0.0.1"]],
      ["10.0.0.0/8, ::1,fd00::/8", ["10.0.0.0/8", "::1", "fd00::/8"]],
      ["0.0.0.0/0", ["0.0.0.0/0"]],
      ["::/128", ["::/128"]],
    ],
    [
      "proxy.internal",
      "10.0.0.256",
      "10.0.0.0/33",
      "::/129",
      "10.0.0",
      "10.0.0.0/8/8",
      "10.0.0.0/",
      "10.0.0.0/x",
      "*",
    ],
  ],
  [
    "LATCHKEY_CORS_ORIGINS",
    "corsOrigins",
    [
      ["*", ["*"]],
      [
        "https://app.example.com, http://localhost:5173",
        ["https://app.example.com", "http://localhost:5173"],
      ],
    ],
    [
      "app.example.com",
      "https://app.example.com/",
      "https://app.example.com/path",
      "https://*.example.com",
      "null",
    ],
  ],
  ["LATCHKEY_CONSOLE", "console", truths, notTruths],
  ["LATCHKEY_SESSION_MAX_HOURS", "sessionMaxHours", numbers(1, 8760), [...notNumbers, "0", "8761"]],
  [
    "LATCHKEY_SESSION_IDLE_MINUTES",
    "sessionIdleMinutes",
    numbers(5, 525_600),
    [...notNumbers, "4", "525601"],
  ],
  ["LATCHKEY_TLS_CERT", "tlsCert", [["cert.pem", "cert.pem"]], []],
  ["LATCHKEY_TLS_KEY", "tlsKey", [["key.pem", "key.pem"]], []],
  ["LATCHKEY_MAX_MESSAGE_BYTES", "maxMessageBytes", numbers(1024, maxInt), [...notNumbers, "1023", "4MiB"]],
  [
    "LATCHKEY_MAX_HEADER_BYTES",
    "maxHeaderBytes",
    numbers(1024, 1_048_576),
    [...notNumbers, "1023", "1048577"],
  ],
  [
    "LATCHKEY_MAX_STREAMS_PER_CONNECTION",
    "maxStreamsPerConnection",
    numbers(1, maxInt),
    [...notNumbers, "0"],
  ],
  ["LATCHKEY_STREAM_RESET_BURST", "streamResetBurst", numbers(1, maxInt), [...notNumbers, "0"]],
  ["LATCHKEY_STREAM_RESET_RATE", "streamResetRate", numbers(1, maxInt), [...notNumbers, "0"]],
  ["LATCHKEY_MAX_CONCURRENT_RPCS", "maxConcurrentRpcs", numbers(1, maxInt), [...notNumbers, "0"]],
  ["LATCHKEY_MAX_UNARY_MS", "maxUnaryMs", numbers(0, maxInt), [...notNumbers, "2147483648"]],
  ["LATCHKEY_SHUTDOWN_TIMEOUT_MS", "shutdownTimeoutMs", numbers(0, maxInt), [...notNumbers, "2147483648"]],
  ["LATCHKEY_METRICS_PORT", "metricsPort", numbers(0, 65_535), [...notNumbers, "65536"]],
  ["LATCHKEY_METRICS_HOST", "metricsHost", [["0.0.0.0", "0.0.0.0"]], []],
  ["LATCHKEY_WORKERS", "workers", numbers(1, 64), [...notNumbers, "0", "65", "auto"]],
  [
    "LATCHKEY_LOG_LEVEL",
    "logLevel",
    [
      ["silent", "silent"],
      ["trace", "trace"],
    ],
    ["INFO", "verbose"],
  ],
];

test("every setting but NODE_ENV's is in this table", () => {
  const fields = settings.map(([, field]) => field);
  assert.deepEqual([...fields, "production"].sort(), Object.keys(readConfig({})).sort());
});

for (const [name, field, good, bad] of settings) {
  test(`${name} is read, and changes nothing else`, () => {
    for (const [value, expected] of good) {
      const { [field]: found, ...others } = read(name, value);
      const { [field]: _, ...expectedOthers } = { ...defaults, ...companionFields[name] };
      assert.deepEqual(found, expected, value);
      assert.deepEqual(others, expectedOthers, value);
    }
  });

  test(`${name} counts as not set when it is empty`, () => {
    assert.deepEqual(readConfig({ [name]: "" }), defaults);
    assert.deepEqual(readConfig({ [name]: undefined }), defaults);
  });

  if (bad.length > 0) {
    test(`${name} refuses what it does not take, by its name`, () => {
      const message = new RegExp(`^${name} must `);
      for (const value of bad)
        assert.throws(() => read(name, value), { name: "ConfigError", message }, value);
    });
  }
}

for (const [what, url] of [
  ["an @", "postgres://ada:hunter2@hunter2@db/keys"],
  ["a slash", "postgres://ada:hunter2/hunter2@db/keys"],
  ["a slash after digits", "postgres://ada:22/hunter2@db/keys"],
  ["a question mark", "postgres://ada:22?hunter2@db/keys"],
  ["a hash", "postgres://ada:22#hunter2@db/keys"],
  ["a space", "postgres://ada:hunter2 hunter2@db/keys"],
] as const) {
  test(`a database password with ${what} that is not encoded is refused and not shown`, () => {
    for (const name of ["DATABASE_URL", "LATCHKEY_LISTEN_DATABASE_URL"]) {
      assert.throws(
        () => read(name, url),
        (error) =>
          error instanceof ConfigError &&
          error.message.startsWith(name) &&
          !error.message.includes("hunter2"),
      );
    }
  });
}

for (const [name, meant] of [
  ["LATCHKEY_DATADIR", "LATCHKEY_DATA_DIR"],
  ["LATCHKEY_RETENTION_DAYS", "LATCHKEY_LOG_RETENTION_DAYS"],
  ["LATCHKEY_KEY_HEADER", "LATCHKEY_API_KEY_HEADER"],
  ["LATCHKEY_SECRETKEY", "LATCHKEY_SECRET_KEY"],
  ["LATCHKEY_REQUIER_AUTH", "LATCHKEY_REQUIRE_AUTH"],
  ["LATCHKEY_PUBLIC_METHOD", "LATCHKEY_PUBLIC_METHODS"],
  ["LATCHKEY_TLS_CERTS", "LATCHKEY_TLS_CERT"],
  ["LATCHKEY_PORT", "PORT"],
  ["LATCHKEY_HOST", "HOST"],
  ["LATCHKEY_DATABASE_URL", "DATABASE_URL"],
] as const) {
  test(`${name} is no setting: ${meant} is suggested`, () => {
    for (const value of ["a-secret-value", "", "true"]) {
      assert.throws(
        () => readConfig({ [name]: value }),
        new ConfigError(`${name} is not a setting. Did you mean ${meant}?`),
      );
    }
  });
}

test("a secret key that is refused is not shown", () => {
  for (const value of ["hunter2", "hunter2 hunter2 hunter2", `hunter2${"x".repeat(512)}`]) {
    assert.throws(
      () => read("LATCHKEY_SECRET_KEY", value),
      (error) => error instanceof ConfigError && !error.message.includes("hunter2"),
    );
  }
});

test("names that do not start with LATCHKEY_ are nobody's business", () => {
  assert.deepEqual(
    readConfig({ PATH: "/bin", LATCH: "1", latchkey_port: "1", DATABASE_URLS: "x" }),
    defaults,
  );
});

test("production refuses the secret key, in whatever words it is switched on", () => {
  const message = /^LATCHKEY_ACCEPT_SECRET_KEY cannot be true with NODE_ENV=production/;
  for (const LATCHKEY_ACCEPT_SECRET_KEY of ["true", "1", "yes"]) {
    assert.throws(() => readConfig({ NODE_ENV: "production", LATCHKEY_ACCEPT_SECRET_KEY }), {
      name: "ConfigError",
      message,
    });
  }
  assert.throws(() => withDefaults({ production: true, acceptSecretKey: true }), {
    name: "ConfigError",
    message,
  });
  // One that is merely there is not accepted.
  const config = readConfig({ NODE_ENV: "production", LATCHKEY_SECRET_KEY: "0123456789abcdef" });
  assert.equal(config.acceptSecretKey, false);
});

test("half of TLS is refused, whichever half", () => {
  const expected = {
    name: "ConfigError",
    message: "LATCHKEY_TLS_CERT and LATCHKEY_TLS_KEY must be set together",
  };
  assert.throws(() => readConfig({ LATCHKEY_TLS_CERT: "cert.pem" }), expected);
  assert.throws(() => readConfig({ LATCHKEY_TLS_KEY: "key.pem" }), expected);
  assert.throws(() => withDefaults({ tlsCert: "cert.pem" }), expected);
  assert.throws(() => withDefaults({ tlsKey: "key.pem" }), expected);
});

test("a LISTEN address without a database of one's own is refused", () => {
  const url = "postgres://ada:hunter2@db/keys";
  const expected = {
    name: "ConfigError",
    message: /^LATCHKEY_LISTEN_DATABASE_URL needs DATABASE_URL(?!.*hunter2)/,
  };
  assert.throws(() => readConfig({ LATCHKEY_LISTEN_DATABASE_URL: url }), expected);
  assert.throws(() => withDefaults({ listenDatabaseUrl: url }), expected);
});

test("a program's client stands for a database URL, and does not go with one", () => {
  const url = "postgres://ada:hunter2@db/keys";
  assert.equal(withDefaults({ sql: {}, listenDatabaseUrl: url }).listenDatabaseUrl, url);
  assert.throws(() => withDefaults({ sql: {}, databaseUrl: url }), {
    name: "ConfigError",
    message: /^sql and databaseUrl both say(?!.*hunter2)/,
  });
});

test("more workers than the embedded database has connections for need another", () => {
  const message = /^LATCHKEY_WORKERS above 8 needs DATABASE_URL/;
  assert.throws(() => readConfig({ LATCHKEY_WORKERS: "9" }), { name: "ConfigError", message });
  assert.equal(readConfig({ LATCHKEY_WORKERS: "8" }).workers, 8);
});

test("the library's form fills in what is not given, and keeps what is, falsy or not", () => {
  assert.deepEqual(withDefaults({}), defaults);
  assert.deepEqual(withDefaults({ ...defaults, host: undefined } as unknown as Partial<Config>), defaults);
  const given: Partial<Config> = {
    port: 0,
    authEnabled: false,
    reflection: false,
    acceptSecretKey: false,
    maxUnaryMs: 0,
    corsOrigins: ["*"],
  };
  assert.deepEqual(withDefaults(given), { ...defaults, ...given });
  assert.equal(withDefaults({ production: true, reflection: true }).reflection, true);
});

test("an option that a setting does not take is refused by its name, without its value", () => {
  for (const [options, message] of [
    [{ port: -1 }, /^port must be a whole number/],
    [{ port: 1.5 }, /^port must be/],
    [{ tokenPrefix: "No" }, /^tokenPrefix must start/],
    [{ secretKey: "hunter2" }, /^secretKey must be 16 to 512/],
    [{ corsOrigins: ["app.example.com"] }, /^corsOrigins must list origins/],
    [{ usageDurability: "sometimes" }, /^usageDurability must be/],
    [{ databaseUrl: "mysql://u:hunter2@h/d" }, /^databaseUrl must be a Postgres URL/],
  ] as const) {
    assert.throws(
      () => withDefaults(options as unknown as Partial<Config>),
      (error) =>
        error instanceof ConfigError && message.test(error.message) && !error.message.includes("hunter2"),
    );
  }
});

test("settings are shown by the names of the environment, secrets only as set", () => {
  const config = readConfig({
    DATABASE_URL: "postgres://ada:hunter2@db/keys",
    LATCHKEY_LISTEN_DATABASE_URL: "postgres://ada:hunter2@db/keys",
    LATCHKEY_SECRET_KEY: "sk_0123456789abcdef",
    LATCHKEY_CORS_ORIGINS: "https://a.example, https://b.example",
  });
  const shown = showSettings(config);
  assert.deepEqual(
    shown.map(({ name }) => name),
    settings.map(([name]) => name).toSorted((a, b) => index(shown, a) - index(shown, b)),
  );
  assert.deepEqual(
    shown.filter(({ isDefault }) => !isDefault),
    [
      { name: "DATABASE_URL", value: "(set)", isDefault: false },
      { name: "LATCHKEY_LISTEN_DATABASE_URL", value: "(set)", isDefault: false },
      { name: "LATCHKEY_SECRET_KEY", value: "(set)", isDefault: false },
      { name: "LATCHKEY_CORS_ORIGINS", value: "https://a.example,https://b.example", isDefault: false },
    ],
  );
  assert.equal(shown.find(({ name }) => name === "LATCHKEY_TLS_CERT")?.value, "");
});

function index(shown: readonly { readonly name: string }[], wanted: string): number {
  return shown.findIndex(({ name }) => name === wanted);
}
