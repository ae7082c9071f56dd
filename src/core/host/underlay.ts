// This file decides which devices of a host may bring packets with the sources of pods. A machine beside the host can
// write any source into its packets. The tunnel proves the sources of other clusters by WireGuard's keys, and the
// route of the host shows where its own pods are; a packet that comes in elsewhere is forged
// (src/io/host/filter/underlay.ts drops it).
// Invariants
//   1. Each device that has an address, and each physical one, is checked. The ends of pods (veth devices without an
//      address, as Calico and Cilium make them) are left to the CNI, because some CNIs route no pod to its own end.
//   2. An uplink is never an overlay, and never a bridge of containers.
import { cidrContains } from '../model/cidr.ts'
import type { Cidr } from '../model/values.ts'
import type { Filter } from './host-state.ts'
import type { HostDevice, Surroundings } from './surroundings.ts'

// nft would read other names as a pattern (`eth*`) or as syntax. Only root gives devices such names.
const DEVICE_NAME = /^[A-Za-z0-9_.@-]{1,15}$/

/** Returns the lists of devices for the filter. `pods`: the pod prefixes of the own cluster. */
export function underlayOf(
  { devices = [], networks }: Pick<Surroundings, 'devices' | 'networks'>,
  pods: readonly Cidr[]
): Required<Pick<Filter, 'checkedDevices' | 'overlayDevices' | 'containerBridges'>> {
  const namesOf = (test: (device: HostDevice) => boolean) =>
    devices.filter((device) => DEVICE_NAME.test(device.name) && test(device)).map(({ name }) => name)
  return {
    checkedDevices: namesOf(() => true),
    overlayDevices: namesOf((device) => isOverlay(device)),
    containerBridges: namesOf(({ isDefault, holdsContainers }) => holdsContainers && !isDefault)
  }

  /**
   * A virtual device that leads to the pods of other nodes and to nothing else, such as flannel.1 or tunl0. Where the
   * nodes reach each other's pods over their uplink, that uplink is none: other machines are there, too.
   */
  function isOverlay({ name, isPhysical, isDefault }: HostDevice): boolean {
    if (isPhysical || isDefault) return false
    const routed = networks.filter(({ device }) => device === name)
    const isOfPods = routed.every(({ destination }) =>
      pods.some((prefix) => cidrContains(prefix, destination))
    )
    return isOfPods && routed.some(({ onLink }) => !onLink)
  }
}
