import assert from 'node:assert/strict'
import { underlayOf } from '../../../src/core/host/underlay.ts'
import type { HostDevice, HostNetwork } from '../../../src/core/host/surroundings.ts'
import type { Cidr } from '../../../src/core/model/values.ts'

const PODS = ['10.244.0.0/16', 'fd02::/48'] as readonly string[] as readonly Cidr[]

const device = (name: string, more: Partial<HostDevice> = {}): HostDevice => ({
  name,
  isPhysical: false,
  isDefault: false,
  holdsContainers: false,
  ...more
})
const route = (destination: string, name: string, onLink = true): HostNetwork => ({
  destination: destination as Cidr,
  device: name,
  onLink
})

describe('the devices by which packets of pods come', () => {
  it('checks every device that the host has, and takes no name that nft would read as a pattern', () => {
    const devices = [device('eth0', { isPhysical: true }), device('cni0'), device('eth*'), device('a"b')]
    assert.deepEqual(underlayOf({ devices, networks: [] }, PODS).checkedDevices, ['eth0', 'cni0'])
    assert.deepEqual(underlayOf({ networks: [] }, PODS), {
      checkedDevices: [],
      overlayDevices: [],
      containerBridges: []
    })
  })

  const overlays: readonly (readonly [string, HostDevice, readonly HostNetwork[], boolean])[] = [
    ['flannel’s VXLAN', device('flannel.1'), [route('10.244.1.0/24', 'flannel.1', false)], true],
    ['the same with IPv6', device('flannel-v6.1'), [route('fd02:0:0:1::/64', 'flannel-v6.1', false)], true],
    ['the bridge of this node’s pods', device('cni0'), [route('10.244.0.0/24', 'cni0')], false],
    ['a device without a route', device('vxlan0'), [], false],
    [
      'a device that leads elsewhere, too',
      device('tun0'),
      [route('10.244.1.0/24', 'tun0', false), route('192.168.0.0/16', 'tun0')],
      false
    ],
    [
      'a physical uplink, also where it leads to pods of other nodes',
      device('eth0', { isPhysical: true }),
      [route('10.244.1.0/24', 'eth0', false)],
      false
    ],
    ['a virtual uplink', device('eth0', { isDefault: true }), [route('10.244.1.0/24', 'eth0', false)], false]
  ]
  for (const [what, one, networks, isOverlay] of overlays)
    it(`${isOverlay ? 'takes' : 'does not take'} remote sources by ${what}`, () => {
      const devices = [one, device('other')]
      const expected = isOverlay ? [one.name] : []
      assert.deepEqual(underlayOf({ devices, networks }, PODS).overlayDevices, expected)
    })

  it('serves containers behind a bridge, unless the bridge is the uplink', () => {
    const devices = [
      device('docker0', { holdsContainers: true }),
      device('br0', { holdsContainers: true, isDefault: true }),
      device('br1')
    ]
    assert.deepEqual(underlayOf({ devices, networks: [] }, PODS).containerBridges, ['docker0'])
  })
})
