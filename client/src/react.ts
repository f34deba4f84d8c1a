import { createContext, createElement, useContext, useMemo, useSyncExternalStore, type ReactElement, type ReactNode } from 'react';
import type { Client } from './client.js';
import type { ConnectionState } from './connection.js';
import type { OrderState } from './order.js';
import type { Readable } from './store.js';

const Context = createContext<Client | null>(null);

/** Gives the client to all components inside. */
export const OrdercastProvider = ({ client, children }: { client: Client; children?: ReactNode }): ReactElement =>
  createElement(Context.Provider, { value: client }, children);

/** The client of the nearest `OrdercastProvider`. */
export function useClient(): Client {
  const client = useContext(Context);
  if (!client) throw new Error('useOrder, useConnection and useClient work inside an <OrdercastProvider client={…}> only.');
  return client;
}

const useStore = <T>({ subscribe, getSnapshot }: Readable<T>): T => useSyncExternalStore(subscribe, getSnapshot, getSnapshot);

/** An order, live while the component is mounted. */
export function useOrder(id: string): OrderState {
  const client = useClient();
  return useStore(useMemo(() => client.order(id), [client, id]));
}

/** What the connection is like. */
export const useConnection = (): ConnectionState => useStore(useClient().connection);
