// Somebody who reaches Redis and is no node: publishes what nodes publish, changed a little.
import { Resp } from './resp.mjs';

const CAPTURE_MS = 1_500;
const GARBAGE = ['', '{}', '{"type":"revoked"}', '\x01', 'x'.repeat(100_000)].map((text) => Buffer.from(text));

/** Frames of each channel below the prefix, as they go by: channel → [bytes]. */
async function capture(redis, prefix) {
  const seen = new Map();
  const resp = await Resp.open(redis.host, (channel, bytes) => { seen.set(channel, [...(seen.get(channel) ?? []), bytes]); });
  await resp.ask('PSUBSCRIBE', `${prefix}*`);
  await new Promise((resolve) => { setTimeout(resolve, CAPTURE_MS); });
  resp.close();
  return seen;
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
    publish(channel, Buffer.concat([frame, frame]));
    publish(random.pick(channels), frame); // true, but said elsewhere
    publish(channel, frames[0]); // true, but said before
    for (const bytes of GARBAGE) publish(channel, bytes);
  }
  await Promise.all(sent);
  resp.close();
  return { frames: sent.length, channels: channels.length };
}
