// What the binary under test can do: some of it comes with the cluster, and is skipped aloud until then.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const { ORDERCAST_BIN: bin } = process.env;

/** It speaks to Redis and to other nodes. */
export const clustered = execFileSync(bin, ['serve', '--help'], { encoding: 'utf8' }).includes('--redis-url');
/** It takes positions over HTTP. */
export const positionsOverHttp = execFileSync(bin, ['openapi'], { encoding: 'utf8' }).includes('/drivers/{id}/locations');
/** Its guards can be switched off. A release build has no such thing. */
export const unguardable = readFileSync(bin).includes('ORDERCAST_TEST_DISABLE');

/** Scenarios that need the cluster, and what for. */
export const NEEDS_CLUSTER = [
  ['announcements', 'an announcement is told on the node that was asked, and on no other'],
  ['polling', 'a polling session belongs to one node, and no other passes its requests on'],
  ['redis', 'there is nothing to lose: it knows no Redis'],
  ['cuts', 'there is no Redis to be cut off from, and nothing that ends a transaction of a node that is cut off'],
  ['rights', 'a node that is cut off from the database goes on telling what it hears itself'],
  ['gained', 'a node that has not heard of an assignment yet denies what it allows'],
  ['behind', 'a node that is behind tells new connections how things stood'],
  ['clocks', 'the times are those of each node'],
  ['takeover', 'nobody tells a node that its session was taken over'],
  ['hopping', 'the rate of a driver is counted by each node for itself'],
];
