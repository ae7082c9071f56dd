import assert from 'node:assert/strict'
import { differencesOf } from '../../../src/core/host/drift.ts'
import type { HostState } from '../../../src/core/host/host-state.ts'
import { EMPTY_HOST } from '../../../src/core/host/normalize.ts'
import { plan } from '../../../src/core/host/plan.ts'
import type { Cidr, Ip, PeerAddress, WireguardKey } from '../../../src/core/model/values.ts'

const EAST = '10.2.0.0/16' as Cidr
const WANT: HostState = {
  tunnel: { device: 'wg0', listenPort: 51820, mtu: 1420, publicKey: 'own=' as WireguardKey },
  peers: [
    {
      publicKey: 'east=' as WireguardKey,
      peerAddress: '203.0.113.12:51820' as PeerAddress,
      allowedIps: [EAST],
      keepaliveSeconds: 25
    }
  ],
  routes: [{ destination: EAST, source: '10.1.0.1' as Ip }],
  vips: [{ destination: '10.102.0.0/16' as Cidr, source: undefined }],
  virtualServers: [
    {
      vip: '10.102.0.10' as Ip,
      protocol: 'TCP',
      port: 80,
      scheduler: 'rr',
      affinitySeconds: 0,
      realServers: [{ ip: '10.2.0.11' as Ip, port: 8080, weight: 1 }]
    }
  ],
  filter: { remoteSources: [EAST], localDestinations: ['10.1.0.0/16' as Cidr], probePort: 7947, mtu: 1420 },
  sysctls: [{ name: 'net.ipv4.ip_forward', value: '1' }]
}
const textsOf = (have: HostState, want = WANT) =>
  differencesOf(plan(want, have), have).map(({ text }) => text)

describe('drift', () => {
  it('names what is missing', () => {
    assert.deepEqual(textsOf(EMPTY_HOST), [
      'the tunnel device wg0 is missing',
      'the packet filter of the mesh is missing',
      'net.ipv4.ip_forward is not set, and should be 1',
      'the WireGuard peer east= at 203.0.113.12:51820 is missing, so nothing goes to 10.2.0.0/16',
      'the route to 10.2.0.0/16 is missing',
      'the virtual server 10.102.0.10 TCP 80 is missing',
      'the local route of the service prefix 10.102.0.0/16 is missing'
    ])
  })

  it('names each field that differs, with what the host has and should have', () => {
    const [peer] = WANT.peers
    const [route] = WANT.routes
    const [server] = WANT.virtualServers
    assert.ok(peer && route && server && WANT.tunnel && WANT.filter)
    const have: HostState = {
      tunnel: { ...WANT.tunnel, listenPort: 4, mtu: 1400 },
      peers: [{ ...peer, peerAddress: '198.51.100.7:9' as PeerAddress, allowedIps: [] }],
      routes: [{ ...route, kind: 'throw' }],
      vips: WANT.vips,
      virtualServers: [{ ...server, realServers: [] }],
      filter: { ...WANT.filter, remoteSources: [], mtu: 1300 },
      sysctls: [{ name: 'net.ipv4.ip_forward', value: '0' }]
    }
    assert.deepEqual(textsOf(have), [
      'the tunnel device wg0 differs: listenPort is 4, and should be 51820; mtu is 1400, and should be 1420',
      'the packet filter of the mesh differs: remoteSources is empty, and should be 10.2.0.0/16; mtu is 1300, and should be 1420',
      'net.ipv4.ip_forward is 0, and should be 1',
      'the WireGuard peer east= at 203.0.113.12:51820 differs: peerAddress is 198.51.100.7:9, and should be 203.0.113.12:51820; allowedIps is empty, and should be 10.2.0.0/16',
      'the route to 10.2.0.0/16 differs: kind is throw, and should be empty',
      'the virtual server 10.102.0.10 TCP 80 differs from the service (real servers: 0, and should be 1)'
    ])
    assert.match(textsOf({ ...WANT, tunnel: { ...WANT.tunnel, mtu: 0 } })[0] ?? '', /wg0 is down/)
    assert.match(textsOf({ ...WANT, tunnel: { ...WANT.tunnel, mtu: 1 } })[0] ?? '', /wg0 lacks an address/)
    const low = textsOf({ ...WANT, tunnel: { ...WANT.tunnel, mtu: 900 } })[0] ?? ''
    assert.match(low, /mtu is 900, and should be 1420/)
  })

  it('names what is left over', () => {
    assert.deepEqual(textsOf(WANT, { ...EMPTY_HOST, sysctls: WANT.sysctls }), [
      'the local route of the service prefix 10.102.0.0/16 is left over',
      'the virtual server 10.102.0.10 TCP 80 is left over',
      'the route to 10.2.0.0/16 is left over',
      'the WireGuard peer east= is none of this mesh',
      'the packet filter of the mesh is left over',
      'the tunnel device is left over'
    ])
  })
})
