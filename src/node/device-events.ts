/** What is told of what happens to the devices of a node. */
export interface DeviceEvent {
  readonly kind: 'device-failed' | 'device-damage';
  readonly deviceId: string;
  readonly text: string;
}
