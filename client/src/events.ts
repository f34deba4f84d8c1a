// Made by generate.mjs from `ordercast asyncapi`. Do not edit.

/** What the server says, by name. */
export interface ServerEvents {
  /** The socket is in its rooms */
  'connected': Connected;
  /** To the driver's socket: a position was taken */
  'driver:location_acknowledged': LocationAcknowledged;
  /** To followers: the driver moved */
  'driver:location_update': LocationUpdate;
  /** To the driver: an order was given to them */
  'driver:new_assignment': Order;
  /** To the driver and admins: where the driver goes has changed */
  'driver:plan_update': DriverPlan;
  /** To the former driver: an order was taken from them */
  'driver:unassigned': OrderUnassigned;
  /** A request without an ack callback was refused */
  'error': Refusal;
  /** To staff who asked for it: drivers moved. Once a second at most */
  'fleet:positions': FleetPositions;
  /** To drivers: an order became ready and has no driver */
  'order:available': OrderAvailable;
  /** To followers and the customer: the order arrives at another time */
  'order:eta_update': EtaUpdate;
  /** To followers, customer and chef: the driver came to a stop, was there, or left it */
  'order:milestone': MilestoneUpdate;
  /** To chef and admins: an order was created */
  'order:new': Order;
  /** To chef and staff: somebody has received or seen an event of the order */
  'order:receipt': Receipt;
  /** To customer, chef and admins: the order will be late, or will not */
  'order:risk': RiskUpdate;
  /** To followers, customer and staff: the driver is not heard of any more, or again */
  'order:signal': SignalUpdate;
  /** To followers, parties and admins: status, driver, payment or details of an order changed. Or how an order stands (`snapshot`), or what was missed, or is played again (`replayed`) */
  'order:status_update': StatusUpdate;
  /** To drivers: an order that was available is not any more */
  'order:withdrawn': OrderWithdrawn;
  /** To the socket that asked for it: a delivery was played to its end */
  'replay:end': ReplayEnd;
  /** More was missed than can be replayed: fetch `GET /orders` */
  'resync': Resync;
  /** The token has ended. Nothing is told until `token:refresh`; the connection ends after 30 s */
  'token:expired': TokenEnd;
  /** The token ends in a minute */
  'token:expiring': TokenEnd;
}

/** What a client may ask, by name, and the answer to it. */
export interface Requests {
  /** Whether somebody looks at the app */
  'app:state': {
    payload: AppState;
    answer: AppStateAnswer;
  };
  /** A driver's position */
  'driver:location': {
    payload: LocationReport;
    answer: LocationReportAnswer;
  };
  /** Positions that a driver's app has collected, up to 500 */
  'driver:location_batch': {
    payload: LocationBatch;
    answer: LocationBatchAnswer;
  };
  /** A notification is there, or was opened */
  'notification:ack': {
    payload: NotificationAck;
    answer: NotificationAckAnswer;
  };
  /** The user has seen an order as it was at a seq */
  'order:seen': {
    payload: OrderSeen;
    answer: OrderSeenAnswer;
  };
  /** Give an order another status */
  'order:status_update': {
    payload: UpdateStatus;
    answer: UpdateStatusAnswer;
  };
  /** Everything about one order's way */
  'order:tracking': {
    payload: TrackOrder;
    answer: TrackOrderAnswer;
  };
  /** How long does an answer take? The payload may be missing */
  'ping:latency': {
    payload: PingLatency;
    answer: PingLatencyAnswer;
  };
  /** Staff: play a delivery again, into this socket only, in place of another one. Its `driver:location_update` and `order:status_update` come with the times in between that they had, divided by the speed, and with `replayed` */
  'replay:order': {
    payload: ReplayOrder;
    answer: ReplayOrderAnswer;
  };
  /** Play no longer. The payload is ignored */
  'replay:stop': {
    payload: ReplayStop;
    answer: ReplayStopAnswer;
  };
  /** Staff: hear where all drivers are, or those in a box. The payload may be missing */
  'subscribe:fleet': {
    payload: SubscribeFleet;
    answer: SubscribeFleetAnswer;
  };
  /** Follow an order */
  'subscribe:order': {
    payload: SubscribeOrder;
    answer: SubscribeOrderAnswer;
  };
  /** A newer token for the same user in the same role */
  'token:refresh': {
    payload: RefreshToken;
    answer: RefreshTokenAnswer;
  };
  /** Hear it no longer. The payload is ignored */
  'unsubscribe:fleet': {
    payload: UnsubscribeFleet;
    answer: UnsubscribeFleetAnswer;
  };
  /** Follow an order no longer */
  'unsubscribe:order': {
    payload: UnsubscribeOrder;
    answer: UnsubscribeOrderAnswer;
  };
}

/** Whether somebody looks at the app. */
export type AppState = {
  state: AppStateName;
};

/** Nothing but `{ok: true}`. */
export type AppStateAnswer = {
  ok: true;
};

/** `active` and `inactive` are what React Native says. */
export type AppStateName = 'foreground' | 'active' | 'background' | 'inactive';

/** West, south, east and north, in degrees: a list of numbers, or a text with commas */
export type Bounds = number[] | string;

/** Who cooks. */
export type Chef = {
  address?: string;
  businessName?: string;
  id: string;
  latitude?: number;
  longitude?: number;
  name: string;
};

/** The greeting of a new socket. */
export type Connected = {
  /** Place in the log of all orders up to which the client has everything */
  position: number;
  /** Whether the session goes on where it was */
  recovered: boolean;
  role: Role;
  serverTime: string;
  socketId: string;
  userId: string;
};

/** Where it goes. */
export type Delivery = {
  address: string;
  /** Absent while it is not known */
  latitude?: number;
  /** Absent while it is not known */
  longitude?: number;
};

/** Where a driver goes. */
export type DriverPlan = {
  driverId: string;
  /** Those that are still open, in their order */
  stops: PlannedStop[];
  /** Rises with every change that somebody makes; 0 if nobody ever did */
  version: number;
};

export type EtaSource = 'geodesic' | 'network' | 'osrm' | 'valhalla' | 'google' | 'mapbox' | 'override';

/** The order arrives at another time. */
export type EtaUpdate = {
  /** How many older events it stands for, for a slow reader */
  conflated?: number;
  estimatedDeliveryTime: string;
  /** The latest time to reckon with */
  etaHigh: string;
  /** The earliest time to reckon with */
  etaLow: string;
  etaMinutes: number;
  etaSource: EtaSource;
  orderId: string;
  /** The way that is left, if it is by road */
  remainingMeters?: number;
  /** The driver has sent no position for over a minute */
  stale?: boolean;
  /** How many places the driver goes to before */
  stopsBefore?: number;
};

/** Why an order could not be delivered. */
export type FailureReason = 'nobody_home' | 'wrong_address' | 'refused' | 'damaged' | 'unsafe' | 'other';

/** Where a driver is. */
export type FleetDriver = {
  /** Percent, if the phone has said so */
  battery?: number;
  driverId: string;
  heading?: number;
  latitude: number;
  longitude: number;
  /** Whether the driver has a socket now */
  online: boolean;
  /** What the driver carries */
  orderIds: string[];
  recordedAt: string;
  speed?: number;
};

/** Drivers who have moved: what `positions` writes. */
export type FleetPositions = {
  drivers: FleetDriver[];
};

/** How an order reaches its customer. */
export type Fulfilment = 'delivery' | 'collection';

/** One line of an order. */
export type Item = {
  name: string;
  quantity: number | string;
  unitPrice?: number;
};

/** A position was taken: what `location_acknowledged` writes. */
export type LocationAcknowledged = {
  /** The orders that it is for */
  orderIds: string[];
  receivedAt: string;
};

/** Positions that were collected. */
export type LocationBatch = {
  points: LocationReport[];
};

/** The answer to `driver:location_batch`. */
export type LocationBatchAnswer = {
  accepted: number;
  ok: true;
  rejected: RejectedPoint[];
};

/** A fix as a driver's phone sends it. Phones have many words for a heading, speed or accuracy that they do not know: `-1` (iOS), `null` (JavaScript's NaN), `"NaN"`. They cost that member, never the fix. */
export type LocationReport = {
  /** Metres. */
  accuracy?: number | null;
  /** Degrees clockwise from north, [0, 360). */
  heading?: number | null;
  latitude: number;
  longitude: number;
  /** Whether an app invented it: what Android says of a mock location. Anything but `true` is no. */
  mocked?: boolean;
  /** Without it the fix counts for all the driver's active orders. */
  orderId?: string | null | number;
  /** When the phone took the fix. If absent, the time of receipt counts. */
  recordedAt?: string | null;
  /** Metres per second. */
  speed?: number | null;
};

/** The answer to `driver:location`, as `answer` writes it. */
export type LocationReportAnswer = {
  ok: true;
  /** The same, if it is not shown */
  reason?: Verdict;
  receivedAt: string;
  /** Whether clients see it */
  shown: boolean;
  verdict: Verdict;
};

/** The driver moved: what `location_update` writes. */
export type LocationUpdate = {
  /** What the phone says of its error, in metres */
  accuracy?: number;
  /** How old it was when it arrived */
  ageMs: number;
  /** How many older positions it stands for, for a slow reader */
  conflated: number;
  driverId: string;
  /** Degrees clockwise from north */
  heading?: number;
  latitude: number;
  longitude: number;
  orderId: string;
  /** The dot jumps, because what was shown before was wrong */
  reanchored?: boolean;
  receivedAt: string;
  /** It was so once, and is played again for this socket */
  replayed?: boolean;
  /** Where the place comes from */
  source: PositionSource;
  /** Metres per second */
  speed?: number;
  /** When the phone measured it */
  timestamp: string;
  /** The driver is closer than that in two of three cases */
  uncertaintyMeters?: number;
};

/** The driver came to a stop, was there, or left it. */
export type Milestone = {
  at: string;
  /** From the stop */
  distanceMeters: number;
  /** What showed it */
  evidence: string;
  milestone: MilestoneStep;
  stop: StopKind;
};

export type MilestoneStep = 'arriving' | 'arrived' | 'departed';

/** The driver came to a stop, was there, or left it. */
export type MilestoneUpdate = {
  at: string;
  /** How many older events it stands for, for a slow reader */
  conflated?: number;
  /** From the stop */
  distanceMeters: number;
  /** What showed it */
  evidence: string;
  milestone: MilestoneStep;
  orderId: string;
  stop: StopKind;
};

/** A notification is there, or was opened. */
export type NotificationAck = {
  id: string;
  state: NotificationState;
};

/** Nothing but `{ok: true}`. */
export type NotificationAckAnswer = {
  ok: true;
};

/** What a device says of a notification. */
export type NotificationState = 'delivered' | 'opened';

/** An order as clients see it. */
export type Order = {
  chef: Chef;
  createdAt: string;
  currency?: string;
  customer: Person;
  /** Absent for an order that is fetched */
  delivery?: Delivery;
  driver: Person | null;
  /** Null while nothing is known. */
  estimatedDeliveryTime: string | null;
  /** Null while nothing is known. */
  etaMinutes: number | null;
  /** Why it could not be delivered */
  failureReason?: FailureReason;
  fulfilment: Fulfilment;
  id: string;
  items: Item[];
  notes?: string;
  orderNumber: string;
  paymentStatus: PaymentStatus;
  /** What the driver has to show before the order is delivered */
  proofRequired?: ProofKind[];
  /** When it is wanted */
  scheduledFor?: ScheduledFor;
  /** Rises by exactly one with every durable event of the order. */
  seq: number;
  status: OrderStatus;
  total?: number;
  trackingNumber?: string;
  updatedAt: string;
};

/** An order is ready and has no driver. */
export type OrderAvailable = {
  orderId: string;
  orderNumber: string;
  pickup: PickupPlace;
};

/** The user has seen an order. */
export type OrderSeen = {
  orderId: string | number;
  seq: number;
};

/** Nothing but `{ok: true}`. */
export type OrderSeenAnswer = {
  ok: true;
};

export type OrderStatus = 'pending' | 'payment_confirmed' | 'accepted' | 'preparing' | 'ready_for_pickup' | 'assigned_to_driver' | 'picked_up' | 'in_transit' | 'failed' | 'delivered' | 'returned' | 'cancelled';

/** The order was taken from the driver. */
export type OrderUnassigned = {
  orderId: string;
  orderNumber: string;
};

/** An order that was available is not any more. */
export type OrderWithdrawn = {
  orderId: string;
  /** `taken` or `cancelled` */
  reason: string;
};

export type PaymentStatus = 'pending' | 'processing' | 'completed' | 'failed' | 'cancelled';

/** A customer or driver. */
export type Person = {
  id: string;
  name: string;
  phone?: string;
};

/** Where the order is fetched. */
export type PickupPlace = {
  address: string | null;
  latitude: number | null;
  longitude: number | null;
};

/** How long does it take? */
export type PingLatency = {
  /** Anything; it is returned */
  t?: unknown;
};

/** The answer to `ping:latency`. */
export type PingLatencyAnswer = {
  ok: true;
  serverTime: string;
  /** As it was sent */
  t?: unknown;
};

/** A stop. */
export type PlannedStop = {
  kind: StopKind;
  latitude: number;
  longitude: number;
  orderId: string;
  /** How long the driver takes there */
  serviceSeconds: number;
};

export type PositionSource = 'raw' | 'filtered' | 'snapped';

/** A way to show that an order was handed over. */
export type ProofKind = 'pin' | 'photo' | 'signature';

/** What a user has of an order, for chef and staff. */
export type Receipt = {
  at: string;
  /** How many older events it stands for, for a slow reader */
  conflated?: number;
  orderId: string;
  /** The last event that is proved to have come */
  receivedSeq: number;
  role: Role;
  /** The last event that was seen */
  seenSeq: number;
  userId: string;
};

/** A newer token for the same user in the same role. */
export type RefreshToken = {
  token: string;
};

/** The answer to `token:refresh`. */
export type RefreshTokenAnswer = {
  expiresAt: string;
  ok: true;
};

/** A refusal on the wire. */
export type Refusal = {
  /** What the order may become instead, by this caller */
  allowed?: OrderStatus[];
  /** A stable word for programs */
  code: string;
  /** The request, where there is no ack */
  event?: string;
  /** The most that is allowed */
  limit?: number;
  /** What of the payload is at fault */
  member?: string;
  /** For people */
  message: string;
  /** The proofs that the order still needs */
  missing?: ProofKind[];
  retryAfterMs?: number;
  /** The order's seq */
  seq?: number;
  /** What the order is */
  status?: OrderStatus;
};

/** A point that was not taken. */
export type RejectedPoint = {
  /** What the order may become instead, by this caller */
  allowed?: OrderStatus[];
  /** A stable word for programs */
  code: string;
  /** The request, where there is no ack */
  event?: string;
  /** Which of the points */
  index: number;
  /** The most that is allowed */
  limit?: number;
  /** What of the payload is at fault */
  member?: string;
  /** For people */
  message: string;
  /** The proofs that the order still needs */
  missing?: ProofKind[];
  retryAfterMs?: number;
  /** The order's seq */
  seq?: number;
  /** What the order is */
  status?: OrderStatus;
};

/** A delivery was played to its end. */
export type ReplayEnd = {
  orderId: string;
  /** How many events that were, with those that `conflated` counts */
  sent: number;
};

/** Play a delivery again, into this socket. */
export type ReplayOrder = {
  orderId: string | number;
  /** What is to be different: see `POST /orders/{id}/replay` */
  set?: Record<string, unknown> | null;
  /** How many times as fast as it was [default: 10] */
  speed?: number | null;
};

/** The answer to `replay:order`. */
export type ReplayOrderAnswer = {
  /** How many positions are played */
  fixes: number;
  /** True if the trail has holes or begins in the middle, or there is more than is played */
  incomplete?: boolean;
  ok: true;
  orderId: string;
  /** How long it takes */
  seconds: number;
};

export type ReplayStop = unknown;

/** Nothing but `{ok: true}`. */
export type ReplayStopAnswer = {
  ok: true;
};

/** Why not everything that was missed can be told. */
export type Resync = {
  /** `too_many_events`, `unknown_position` or `too_old` */
  reason: string;
};

export type Risk = 'on_time' | 'at_risk' | 'delayed';

/** The order will be late, or will not. */
export type RiskUpdate = {
  /** How many older events it stands for, for a slow reader */
  conflated?: number;
  etaHigh: string;
  etaLow: string;
  orderId: string;
  promisedFrom?: string;
  promisedTo?: string;
  /** Why it will be late */
  reason?: string;
  risk: Risk;
};

export type Role = 'customer' | 'chef' | 'driver' | 'admin' | 'service' | 'anonymous';

/** A window as clients send and get it: a time, or from when to when. */
export type ScheduledFor = string | {
  from: string;
  to: string;
};

/** The driver is not heard of any more, or again. */
export type SignalUpdate = {
  /** How many older events it stands for, for a slow reader */
  conflated?: number;
  lastSeen: string | null;
  orderId: string;
  /** `lost` or `regained` */
  state: string;
};

/** A status the order has had. */
export type StatusHistoryEntry = {
  changedBy?: string;
  /** It was set because the status before was wrong. */
  corrected?: boolean;
  status: OrderStatus;
  timestamp: string;
};

/** A durable event after the creation: what `order:status_update` and `GET /orders/{id}/events` say. */
export type StatusUpdate = {
  /** Which members of the order are new */
  changed?: string[];
  changedBy?: string;
  /** It was set because the status before was wrong. */
  corrected?: boolean;
  driver?: Person;
  estimatedDeliveryTime?: string;
  etaMinutes?: number;
  message: string;
  orderId: string;
  orderNumber: string;
  paymentStatus: PaymentStatus;
  position: number;
  previousStatus: OrderStatus;
  /** Why it could not be delivered */
  reason?: string;
  replayed?: boolean;
  seq: number;
  snapshot?: boolean;
  status: OrderStatus;
  timestamp: string;
};

/** What is done at a stop of a driver. */
export type StopKind = 'pickup' | 'dropoff';

/** Hear where all drivers are. */
export type SubscribeFleet = {
  bbox?: Bounds | null;
};

/** Nothing but `{ok: true}`. */
export type SubscribeFleetAnswer = {
  ok: true;
};

/** Follow an order. */
export type SubscribeOrder = {
  orderId: string | number;
  /** Tell each update after this seq, in place of the present state */
  since?: number | null;
};

/** The answer to `subscribe:order`. */
export type SubscribeOrderAnswer = {
  ok: true;
  orderId: string;
  seq: number;
  status: OrderStatus;
  tracking: Tracking;
};

/** When the socket's token ends. */
export type TokenEnd = {
  expiresAt: string;
};

/** Which order. */
export type TrackOrder = {
  orderId: string | number;
};

/** Everything about one order's way, past and present. */
export type TrackOrderAnswer = {
  acceptedAt?: string;
  assignedAt?: string;
  cancelledAt?: string;
  chefAddress: string | null;
  chefBusinessName: string | null;
  chefLatitude: number | null;
  chefLongitude: number | null;
  chefName: string;
  createdAt: string;
  customerName: string;
  deliveredAt?: string;
  deliveryAddress: string;
  /** Null while it is not known. */
  deliveryLatitude: number | null;
  /** Null while it is not known. */
  deliveryLongitude: number | null;
  driverAssigned: boolean;
  driverLatitude?: number;
  driverLongitude?: number;
  driverName?: string;
  driverPhone?: string;
  estimatedDeliveryTime?: string;
  etaHigh?: string;
  /** The earliest and the latest time to reckon with. */
  etaLow?: string;
  etaMinutes?: number;
  /** What the ETA is made of: `network` (roads), `geodesic` (the straight line), `override` (set by hand), or a router. */
  etaSource?: EtaSource;
  failedAt?: string;
  /** Why it could not be delivered */
  failureReason?: FailureReason;
  /** Absent for an order that a driver brings */
  fulfilment?: Fulfilment;
  lastLocationUpdate?: string;
  /** What has happened at its stops. */
  milestones: Milestone[];
  ok: true;
  orderId: string;
  orderNumber: string;
  paymentConfirmedAt?: string;
  paymentStatus: PaymentStatus;
  pickedUpAt?: string;
  readyAt?: string;
  /** The way that is left, if it is by road. */
  remainingMeters?: number;
  returnedAt?: string;
  /** `on_time`, `at_risk` or `delayed`, once something was promised. */
  risk?: Risk;
  /** When it is wanted */
  scheduledFor?: ScheduledFor;
  seq: number;
  /** True when the ETA is an estimate, and the driver has sent no position for over a minute. */
  stale?: boolean;
  status: OrderStatus;
  statusHistory: StatusHistoryEntry[];
  /** How many places the driver goes to before. */
  stopsBefore?: number;
  trackingNumber?: string;
};

/** Everything about one order's way, past and present. */
export type Tracking = {
  acceptedAt?: string;
  assignedAt?: string;
  cancelledAt?: string;
  chefAddress: string | null;
  chefBusinessName: string | null;
  chefLatitude: number | null;
  chefLongitude: number | null;
  chefName: string;
  createdAt: string;
  customerName: string;
  deliveredAt?: string;
  deliveryAddress: string;
  /** Null while it is not known. */
  deliveryLatitude: number | null;
  /** Null while it is not known. */
  deliveryLongitude: number | null;
  driverAssigned: boolean;
  driverLatitude?: number;
  driverLongitude?: number;
  driverName?: string;
  driverPhone?: string;
  estimatedDeliveryTime?: string;
  etaHigh?: string;
  /** The earliest and the latest time to reckon with. */
  etaLow?: string;
  etaMinutes?: number;
  /** What the ETA is made of: `network` (roads), `geodesic` (the straight line), `override` (set by hand), or a router. */
  etaSource?: EtaSource;
  failedAt?: string;
  /** Why it could not be delivered */
  failureReason?: FailureReason;
  /** Absent for an order that a driver brings */
  fulfilment?: Fulfilment;
  lastLocationUpdate?: string;
  /** What has happened at its stops. */
  milestones: Milestone[];
  orderId: string;
  orderNumber: string;
  paymentConfirmedAt?: string;
  paymentStatus: PaymentStatus;
  pickedUpAt?: string;
  readyAt?: string;
  /** The way that is left, if it is by road. */
  remainingMeters?: number;
  returnedAt?: string;
  /** `on_time`, `at_risk` or `delayed`, once something was promised. */
  risk?: Risk;
  /** When it is wanted */
  scheduledFor?: ScheduledFor;
  seq: number;
  /** True when the ETA is an estimate, and the driver has sent no position for over a minute. */
  stale?: boolean;
  status: OrderStatus;
  statusHistory: StatusHistoryEntry[];
  /** How many places the driver goes to before. */
  stopsBefore?: number;
  trackingNumber?: string;
};

export type UnsubscribeFleet = unknown;

/** Nothing but `{ok: true}`. */
export type UnsubscribeFleetAnswer = {
  ok: true;
};

/** Which order. */
export type UnsubscribeOrder = {
  orderId: string | number;
};

/** Nothing but `{ok: true}`. */
export type UnsubscribeOrderAnswer = {
  ok: true;
};

/** Give an order another status. */
export type UpdateStatus = {
  /** Refuse if the order is not at this seq */
  expectedSeq?: number | null;
  note?: string | null;
  orderId: string | number;
  reason?: FailureReason | null;
  status: OrderStatus;
};

/** The answer to `order:status_update`. */
export type UpdateStatusAnswer = {
  ok: true;
  orderId: string;
  seq: number;
  status: OrderStatus;
};

export type Verdict = 'shown' | 'late' | 'duplicate' | 'null_island' | 'inaccurate' | 'mocked' | 'teleport' | 'sign_flip' | 'swapped' | 'inconsistent' | 'held';
