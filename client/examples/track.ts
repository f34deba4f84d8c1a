// An order on a plain page: its status, its ETA, and where the driver is.
import { connect, type StatusUpdate } from 'ordercast-client';

const client = connect('https://orders.example.com', {
  // Asked anew at every connection, and when the token is about to end.
  token: async () => (await fetch('/session/token')).text(),
});

const show = (id: string, text: string) => { document.getElementById(id)!.textContent = text; };

client.connection.subscribe(({ phase, error }) => show('connection', error?.message ?? phase));

const order = client.order('o-1001');
const leave = order.subscribe(({ phase, error, tracking, update, location }) => {
  if (phase === 'error') show('status', error!.message);
  if (!tracking) return;
  show('status', update?.message ?? tracking.status);
  show('eta', tracking.etaMinutes ? `${tracking.etaMinutes} min` : '');
  show('driver', location ? `${location.latitude}, ${location.longitude}` : '');
});

// Each change once and in order, also after a tunnel.
order.onUpdate(({ seq, status, timestamp }: StatusUpdate) => console.info(seq, status, timestamp));

export async function cancel(): Promise<void> {
  const { status } = await client.request('order:status_update', { orderId: order.id, status: 'cancelled' });
  show('status', status);
  leave();
}
