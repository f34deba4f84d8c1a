// A driver's app in React Native: positions that survive tunnels and restarts, and pushes as long as the app is in the background.
import AsyncStorage from '@react-native-async-storage/async-storage';
import Geolocation from '@react-native-community/geolocation';
import { connect } from 'ordercast-client';
import { useEffect, useState } from 'react';
import { AppState, Text } from 'react-native';

const client = connect('https://orders.example.com', {
  token: async () => (await AsyncStorage.getItem('token')) ?? '',
  socket: { transports: ['websocket'] },
});
const reporter = client.driver({ storage: AsyncStorage });

export function Reporting() {
  const [{ taken, waiting, dropped, error }, show] = useState(reporter.get());
  useEffect(() => reporter.subscribe(show), []);
  useEffect(() => {
    const watch = Geolocation.watchPosition(
      ({ coords: { latitude, longitude, heading, speed, accuracy }, timestamp }) => reporter.report({ latitude, longitude, heading, speed, accuracy, recordedAt: timestamp }),
      console.warn,
      { enableHighAccuracy: true, distanceFilter: 5 },
    );
    return () => Geolocation.clearWatch(watch);
  }, []);
  useEffect(() => {
    const app = AppState.addEventListener('change', (state) => {
      const isActive = state === 'active';
      client.request('app:state', { state: isActive ? 'foreground' : 'background' }).catch(console.warn);
      if (!isActive) void reporter.save();
    });
    return () => app.remove();
  }, []);
  return <Text>{error?.message ?? `${taken} sent, ${waiting} waiting, ${dropped} lost`}</Text>;
}
