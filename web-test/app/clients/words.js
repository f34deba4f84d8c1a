// The words of each client for where an order stands.

import { STATUSES, phase, rank } from '../order.js';

const table = (...words) => Object.fromEntries(words.map((word, i) => [STATUSES[i], word]));

export const WORDS = {
  canonical: { ...table(...STATUSES), cancelled: 'cancelled' },
  track: { ...table('pending', 'pending', 'confirmed', 'preparing', 'ready', 'ready', 'out_for_delivery', 'out_for_delivery', 'delivered'), cancelled: 'cancelled' },
  ws: { ...table('PENDING', 'CONFIRMED', 'CONFIRMED', 'PREPARING', 'READY', 'READY', 'OUT_FOR_DELIVERY', 'OUT_FOR_DELIVERY', 'DELIVERED'), cancelled: 'CANCELLED' },
  tracking: { assigned_to_driver: 'ASSIGNED', picked_up: 'PICKED_UP', in_transit: 'IN_TRANSIT', delivered: 'DELIVERED' },
};

/** The word that comes after an order's status, for one who knows these words; null at the end. */
export function nextWord(words, status) {
  if (rank(status) < 0) return null;
  return STATUSES.slice(rank(status) + 1).map((later) => words[later]).find((word) => word && word !== words[status]) ?? null;
}

/** Which part of an order's life a word belongs to. */
export const phaseOfWord = (words, word) => phase(Object.keys(words).find((status) => words[status] === word));
