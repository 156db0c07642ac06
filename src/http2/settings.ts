/** What a client says of itself in SETTINGS (RFC 9113, section 6.5). */
import {
  ConnectionError,
  errorCode,
  initialWindowBytes,
  maxFrameBytes,
  maxWindowBytes,
  readUint32,
  setting,
} from "./wire.ts";

const entryBytes = 6;

export interface PeerSettings {
  initialWindowSize: number;
}

export const defaultSettings: Readonly<PeerSettings> = {
  initialWindowSize: initialWindowBytes,
};

/**
 * Reads a payload into the settings, and tells of each size of the table for headers: a smaller one has
 * to be heeded though a larger one follows. Throws {@link ConnectionError}.
 */
export function readSettings(
  settings: PeerSettings,
  bytes: Uint8Array,
  from: number,
  to: number,
  onTableSize: (bytes: number) => void,
): void {
  if ((to - from) % entryBytes !== 0) {
    throw new ConnectionError(errorCode.frameSizeError, "SETTINGS of an odd length");
  }
  for (let at = from; at < to; at += entryBytes) {
    const id = ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
    const value = readUint32(bytes, at + 2);
    if (id === setting.headerTableSize) onTableSize(value);
    else if (id === setting.enablePush && value > 1) {
      throw new ConnectionError(errorCode.protocolError, "ENABLE_PUSH is neither 0 nor 1");
    } else if (id === setting.initialWindowSize) {
      if (value > maxWindowBytes) {
        throw new ConnectionError(errorCode.flowControlError, "INITIAL_WINDOW_SIZE is too large");
      }
      settings.initialWindowSize = value;
    } else if (id === setting.maxFrameSize && (value < maxFrameBytes || value > 0xffffff)) {
      throw new ConnectionError(errorCode.protocolError, "MAX_FRAME_SIZE is out of range");
    }
  }
}
