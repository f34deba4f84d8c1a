// A shop's page that follows an order.
import { done, order, token } from './stage.mjs';

globalThis.orderId = await order();
globalThis.currentToken = () => token('c1', 'customer');
globalThis.freshToken = globalThis.currentToken;
globalThis.render = ({ status }) => done('the page shows', status);
