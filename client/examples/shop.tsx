// An order in React.
import { connect } from 'ordercast-client';
import { OrdercastProvider, useConnection, useOrder } from 'ordercast-client/react';

const client = connect('https://orders.example.com', { token: async () => (await fetch('/session/token')).text() });

function Order({ id }: { id: string }) {
  const { phase, error, tracking, update } = useOrder(id);
  if (phase === 'error') return <p role="alert">{error?.message}</p>;
  if (!tracking) return <p>Loading…</p>;
  return (
    <section aria-busy={phase !== 'live'}>
      <h2>{update?.message ?? tracking.status}</h2>
      {tracking.etaMinutes && <p>Arrives in {tracking.etaMinutes} minutes</p>}
      <ol>{tracking.statusHistory.map(({ status, timestamp }) => <li key={timestamp}>{status}</li>)}</ol>
    </section>
  );
}

function Connection() {
  const { phase, error } = useConnection();
  return phase === 'connected' ? null : <p role="status">{error?.message ?? 'Connecting…'}</p>;
}

export const Shop = ({ orderId }: { orderId: string }) => (
  <OrdercastProvider client={client}>
    <Connection />
    <Order id={orderId} />
  </OrdercastProvider>
);
