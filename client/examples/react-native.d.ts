// As much of React Native's packages as the example uses, so that it can be checked without them.
declare module 'react-native' {
  export const AppState: { addEventListener(type: 'change', listener: (state: string) => void): { remove(): void } };
  export const Text: (props: { children?: unknown }) => import('react').ReactElement;
}
declare module '@react-native-async-storage/async-storage' {
  const storage: { getItem(key: string): Promise<string | null>; setItem(key: string, value: string): Promise<void>; removeItem(key: string): Promise<void> };
  export default storage;
}
declare module '@react-native-community/geolocation' {
  interface Position { coords: { latitude: number; longitude: number; heading: number | null; speed: number | null; accuracy: number }; timestamp: number }
  const geolocation: { watchPosition(done: (position: Position) => void, failed: (error: unknown) => void, options: object): number; clearWatch(id: number): void };
  export default geolocation;
}
