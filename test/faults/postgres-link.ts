/** What lies between a server and Postgres: passes everything on until a test says otherwise. */
import { createHash } from "node:crypto";
import net from "node:net";

export interface PostgresLink {
  /** Where a server finds the database through it. */
  readonly url: string;
  /**
   * Stalls the connections of a purpose (as in "latchkey listen") that are open now,
   * without closing anything; what is opened later passes, unless it is to stall
   * too. Returns how many.
   */
  stall(purpose: string, later?: "later too"): number;
  /** Lets what is opened from now on pass. */
  heal(): void;
  /** From now on holds back what Postgres answers to the look-up of a token. */
  holdAnswersAbout(token: string): Hold;
  close(): void;
}

export interface Hold {
  /** Whether an answer is held back now. */
  readonly holds: boolean;
  /** Lets what was held go on, and whatever comes after it. */
  release(): void;
}

interface Link {
  readonly client: net.Socket;
  readonly purpose: string;
  stalled: boolean;
  /** Answers that wait for the release; undefined: they pass. */
  held: Buffer[] | undefined;
}

/** Opens a link to the database of a URL, which names a unix socket. */
export async function openPostgresLink(databaseUrl: string): Promise<PostgresLink> {
  const directory = new URL(databaseUrl).searchParams.get("host") ?? "";
  const links = new Set<Link>();
  const stalledPurposes = new Set<string>();
  const holds = new Set<{ forms: Buffer[]; links: Set<Link> }>();

  function onRequest(link: Link, chunk: Buffer): void {
    for (const hold of holds) {
      if (!hold.forms.some((form) => chunk.includes(form))) continue;
      link.held ??= [];
      hold.links.add(link);
    }
  }

  const server = net.createServer((client) => {
    const upstream = net.connect(`${directory}/.s.PGSQL.5432`);
    client.once("data", (startup: Buffer) => {
      const purpose = startup.toString("latin1").match(/latchkey (\w+)/)?.[1] ?? "";
      const link: Link = { client, purpose, stalled: stalledPurposes.has(purpose), held: undefined };
      links.add(link);
      if (link.stalled) return;
      upstream.write(startup);
      client.on("data", (chunk: Buffer) => {
        if (link.stalled) return;
        onRequest(link, chunk);
        upstream.write(chunk);
      });
      upstream.on("data", (chunk: Buffer) => {
        if (link.stalled) return;
        if (link.held !== undefined) link.held.push(chunk);
        else client.write(chunk);
      });
      client.on("close", () => links.delete(link));
    });
    client.on("error", () => {}).on("close", () => upstream.destroy());
    upstream.on("error", () => {}).on("close", () => client.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

  const url = new URL(databaseUrl);
  url.host = `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
  url.search = "";
  return {
    url: url.href,
    stall(purpose, later) {
      if (later !== undefined) stalledPurposes.add(purpose);
      const concerned = [...links].filter((link) => link.purpose === purpose && !link.stalled);
      for (const link of concerned) link.stalled = true;
      return concerned.length;
    },
    heal: () => stalledPurposes.clear(),
    holdAnswersAbout(token) {
      const digest = createHash("sha256").update(token).digest();
      // As bytes and as text: which of them the driver sends is its own affair.
      const hold = { forms: [digest, Buffer.from(digest.toString("hex"))], links: new Set<Link>() };
      holds.add(hold);
      return {
        get holds() {
          return [...hold.links].some(({ held }) => held !== undefined && held.length > 0);
        },
        release() {
          holds.delete(hold);
          for (const link of hold.links) {
            for (const chunk of link.held ?? []) link.client.write(chunk);
            link.held = undefined;
          }
        },
      };
    },
    close() {
      server.close();
      for (const { client } of links) client.destroy();
    },
  };
}
