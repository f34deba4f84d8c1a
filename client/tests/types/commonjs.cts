// The types as a CommonJS module sees them.
import ordercast = require('ordercast-client');
import react = require('ordercast-client/react');

const client = ordercast.connect('http://localhost:9001', { token: () => 'x' });
export const phase: 'idle' | 'loading' | 'live' | 'reconnecting' | 'error' = client.order('o1').get().phase;
export const { useOrder } = react;
