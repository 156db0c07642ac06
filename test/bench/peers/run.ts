/** The process of one peer. */
import { answerParent } from "../child-main.ts";
import { echoService } from "../echo.ts";
import type { PeerJob, RunningPeer, StartPeer } from "./peer.ts";

interface Start extends Omit<PeerJob, "service"> {
  readonly module: string;
  /** The compiled service, in base64. */
  readonly image: string;
}

let running: RunningPeer | undefined;

answerParent({
  async start({ module, image, ...job }: Start) {
    const { start } = (await import(`./${module}.ts`)) as { start: StartPeer };
    running = await start({ ...job, service: echoService(Buffer.from(image, "base64")) });
    return { port: running.port, token: running.token };
  },
  close: () => running?.close(),
});
