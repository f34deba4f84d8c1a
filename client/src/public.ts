export type { Answer, Client, EventName, Options, Payload, RequestName, Trace, Wire } from './client.js';
export type { ConnectionState, TokenSource } from './connection.js';
export type { Fix, Outcome, Reporter, ReporterOptions, ReporterState, Storage } from './driver.js';
export { OrdercastError } from './errors.js';
export type * from './events.js';
export type { DriverLocation, OrderState, OrderStore } from './order.js';
export type { Readable } from './store.js';
export type { Clock } from './timeline.js';
