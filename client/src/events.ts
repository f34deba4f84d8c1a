// PROVISIONAL
export type OrderStatus = 'pending' | 'payment_confirmed' | 'accepted' | 'preparing' | 'ready_for_pickup' | 'assigned_to_driver' | 'picked_up' | 'in_transit' | 'delivered' | 'failed' | 'returned' | 'cancelled';
export interface Problem { code: string; message: string; member?: string; allowed?: string[]; status?: string; seq?: number; retryAfterMs?: number; limit?: number; event?: string; missing?: string[] }
export interface Connected { socketId: string; userId: string; role: string; recovered: boolean; position: number; serverTime: string }
export interface Person { id: string; name: string; phone?: string }
export interface OrderEvent { orderId: string; orderNumber: string; status: string; previousStatus: string; seq: number; position: number; timestamp: string; changedBy?: string; driver?: Person; paymentStatus: string; etaMinutes?: number; estimatedDeliveryTime?: string; message: string; reason?: string; changed?: string[]; corrected?: boolean; replayed?: boolean; snapshot?: boolean }
export interface Milestone { stop: string; milestone: string; at: string; distanceMeters: number; evidence: string }
export interface StatusHistoryEntry { status: string; timestamp: string; changedBy?: string; corrected?: boolean }
export interface Tracking { orderId: string; orderNumber: string; trackingNumber?: string; status: string; paymentStatus: string; seq: number; customerName: string; deliveryAddress: string; deliveryLatitude: number | null; deliveryLongitude: number | null; fulfilment?: string; failureReason?: string; chefName: string; chefBusinessName: string | null; chefAddress: string | null; chefLatitude: number | null; chefLongitude: number | null; driverAssigned: boolean; driverName?: string; driverPhone?: string; driverLatitude?: number; driverLongitude?: number; lastLocationUpdate?: string; estimatedDeliveryTime?: string; etaMinutes?: number; etaLow?: string; etaHigh?: string; etaSource?: string; remainingMeters?: number; stopsBefore?: number; stale?: boolean; milestones: Milestone[]; risk?: string; statusHistory: StatusHistoryEntry[]; createdAt: string; paymentConfirmedAt?: string; acceptedAt?: string; readyAt?: string; assignedAt?: string; pickedUpAt?: string; deliveredAt?: string; cancelledAt?: string; failedAt?: string; returnedAt?: string }
export interface LocationUpdate { orderId: string; driverId: string; latitude: number; longitude: number; heading?: number; speed?: number; accuracy?: number; source: string; uncertaintyMeters?: number; reanchored?: boolean; timestamp: string; receivedAt: string; ageMs: number; conflated: number }
export interface EtaUpdate { orderId: string; etaMinutes: number; estimatedDeliveryTime: string; etaLow: string; etaHigh: string; etaSource: string; remainingMeters?: number; stopsBefore?: number; stale?: boolean }
export interface LocationReport { latitude: number; longitude: number; orderId?: string; heading?: number | null; speed?: number | null; accuracy?: number | null; recordedAt?: string; mocked?: boolean }
export interface ServerEvents {
  'connected': Connected;
  'order:status_update': OrderEvent;
  'driver:location_update': LocationUpdate;
  'order:eta_update': EtaUpdate;
  'order:signal': { orderId: string; state: 'lost' | 'regained'; lastSeen: string };
  'order:milestone': { orderId: string } & Milestone;
  'order:risk': { orderId: string; risk: string };
  'driver:unassigned': { orderId: string; orderNumber: string };
  'driver:new_assignment': { id: string };
  'token:expiring': { expiresAt: string };
  'token:expired': { expiresAt: string };
  'resync': { reason: string };
}
export interface Requests {
  'subscribe:order': { payload: { orderId: string; since?: number }; answer: { ok: true; orderId: string; seq: number; status: string; tracking: Tracking } };
  'unsubscribe:order': { payload: { orderId: string }; answer: { ok: true } };
  'order:tracking': { payload: { orderId: string }; answer: Tracking & { ok: true } };
  'order:status_update': { payload: { orderId: string; status: string; note?: string; reason?: string; expectedSeq?: number }; answer: { ok: true; orderId: string; status: string; seq: number } };
  'driver:location': { payload: LocationReport; answer: { ok: true; receivedAt: string; shown: boolean; verdict: string; reason?: string } };
  'driver:location_batch': { payload: { points: LocationReport[] }; answer: { ok: true; accepted: number; rejected: { index: number; code: string }[] } };
  'token:refresh': { payload: { token: string }; answer: { ok: true; expiresAt: string } };
}
