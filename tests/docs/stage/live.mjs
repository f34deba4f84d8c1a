// A customer's app with a Live Activity.
import './app.mjs';
import { done } from './stage.mjs';

globalThis.activityToken = '0123456789abcdef';
const { fetch } = globalThis;
let registered = 0;
globalThis.fetch = async (path, init) => {
  await fetch(path, init);
  registered += 1;
  if (registered === 2) done('registered in both ways');
};
