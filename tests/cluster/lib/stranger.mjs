// Somebody who reaches Redis and is no node: publishes what nodes publish, changed a little.
import { Resp } from './resp.mjs';

const CAPTURE_MS = 1_500;
/** How near to each other the drivers of live.mjs are, in degrees; and where none of them is. */
const [LATITUDE, NEAR, ELSEWHERE] = [45.2, 0.01, 99.5];
const GARBAGE = ['', '{}', '{"type":"revoked"}', '\x01', 'x'.repeat(100_000)].map((text) => Buffer.from(text));

/** Frames of each channel below the prefix, as they go by: channel → [bytes]. */
async function capture(redis, prefix) {
  const seen = new Map();
  const resp = await Resp.open(redis.host, {
    heard: (channel, bytes) => { seen.set(channel, [...(seen.get(channel) ?? []), bytes]); },
  });
  await resp.ask('PSUBSCRIBE', `${prefix}*`);
  await new Promise((resolve) => { setTimeout(resolve, CAPTURE_MS); });
  resp.close();
  return seen;
}

/** A place of a driver, sent and measured now, and far away. Null if the frame is none. */
function moved(frame) {
  const now = Date.now();
  for (let at = 14; at + 28 <= frame.length; at += 1) {
    if (Math.abs(frame.readDoubleBE(at) - LATITUDE) > NEAR) continue;
    const changed = Buffer.from(frame);
    changed.writeUIntBE(now, 8, 6);
    changed.writeDoubleBE(ELSEWHERE, at + 8);
    for (const time of [at + 16, at + 22]) changed.writeUIntBE(now, time, 6);
    return changed;
  }
  return null;
}

/** Every kind of wrong frame on every channel that is in use. Returns how many frames, and how many channels it had seen. */
export async function forge(redis, prefix, random) {
  const seen = await capture(redis, prefix);
  const resp = await Resp.open(redis.host);
  const channels = [...seen.keys()];
  const sent = [];
  const publish = (channel, bytes) => sent.push(resp.ask('PUBLISH', channel, bytes));
  for (const [channel, frames] of seen) {
    const frame = frames.at(-1);
    for (let i = 0; i < frame.length; i += 1) {
      const changed = Buffer.from(frame);
      changed[i] ^= 1 << random.below(8);
      publish(channel, changed);
    }
    for (let length = 0; length < frame.length; length += 7) publish(channel, frame.subarray(0, length));
    const elsewhere = moved(frame);
    if (elsewhere) publish(channel, elsewhere);
    publish(channel, Buffer.concat([frame, frame]));
    publish(random.pick(channels), frame); // true, but said elsewhere
    publish(channel, frames[0]); // true, but said before
    for (const bytes of GARBAGE) publish(channel, bytes);
  }
  await Promise.all(sent);
  resp.close();
  return { frames: sent.length, channels: channels.length };
}
