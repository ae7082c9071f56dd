import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import {
  bytesToIp,
  cidrContains,
  cidrToPrefix,
  hostCidr,
  parseCidr,
  parseIp
} from '../../../src/core/model/cidr.ts'
import { desired } from '../../../src/core/host/desired.ts'
import type { Route, Vip } from '../../../src/core/host/host-state.ts'
import type {
  Cidr,
  ClusterName,
  Ip,
  Origin,
  PeerAddress,
  ServiceValue,
  WireguardKey
} from '../../../src/core/model/values.ts'
import {
  NO_SURROUNDINGS,
  outerOf,
  overlapsOf,
  ownParts,
  type Surroundings
} from '../../../src/core/host/surroundings.ts'
import type { ClusterView, ProvedAgent } from '../../../src/core/view/view.ts'

const ip = (text: string): Ip => parseIp(text) ?? assert.fail(text)
const cidr = (text: string): Cidr => {
  const parsed = parseCidr(text)
  return parsed.kind === 'cidr' ? parsed.cidr : assert.fail(parsed.reason)
}
const network = (text: string, device = 'eth0', onLink = true) => ({
  destination: cidr(text),
  device,
  onLink
})

const agent = (name: string, more: Partial<ProvedAgent> = {}): ProvedAgent => ({
  kind: 'agent',
  wireguardKey: `key-${name}` as WireguardKey,
  wireguardAddresses: [],
  multiaddrs: [],
  tunnelAddress: undefined,
  node: `${name}-gw`,
  role: 'gateway',
  version: '0',
  probePort: 0,
  ...more
})

const cluster = (name: string, more: Partial<ClusterView> = {}): ClusterView => ({
  name: name as ClusterName,
  podPrefixes: [],
  servicePrefixes: [],
  agents: [{ origin: name as Origin, agent: agent(name) }],
  services: new Map(),
  complete: true,
  conflicts: [],
  refusals: [],
  ...more
})

const host = (others: readonly ClusterView[], surroundings: Surroundings) =>
  desired({
    view: {
      self: 'west' as ClusterName,
      clusters: new Map(
        [cluster('west', { podPrefixes: [cidr('10.1.0.0/16')] }), ...others].map((each) => [each.name, each])
      )
    },
    self: { origin: 'west' as Origin, cluster: 'west' as ClusterName },
    local: { publicKey: 'key-west' as WireguardKey, nodeAddress: ip('10.1.0.1') },
    health: () => 'up',
    surroundings,
    settings: {
      device: 'rhizome0',
      listenPort: 51820,
      mtu: 1420,
      balanceLocal: false,
      keepaliveSeconds: 15,
      scheduler: 'rr'
    }
  })

/** As a kernel looks an address up in one table. */
function lookup(routes: readonly (Route | Vip)[], address: Ip): Route | Vip | undefined {
  const length = ({ destination }: Route | Vip) => cidrToPrefix(destination).length
  return routes
    .filter(({ destination }) => cidrContains(destination, address))
    .toSorted((a, b) => length(b) - length(a))[0]
}

describe('what a host reaches by itself', () => {
  // 16 bits below 10/8 or fd00::/…: small enough that prefixes nest and meet.
  const family = fc.constantFrom(4 as const, 6 as const)
  const address = (of: 4 | 6, bits: number): Ip => {
    const tail = [(bits >> 8) & 0xff, bits & 0xff]
    const bytes = of === 4 ? [10, 9, ...tail] : [0xfd, ...Array.from({ length: 13 }, () => 0), ...tail]
    return bytesToIp(Uint8Array.from(bytes)) ?? assert.fail()
  }
  const prefix = (of: 4 | 6) =>
    fc.tuple(fc.nat(0xffff), fc.integer({ min: 1, max: 16 })).map(([bits, length]) => {
      const masked = bits & (0xffff << (16 - length)) & 0xffff
      return cidr(`${address(of, masked)}/${(of === 4 ? 16 : 112) + length}`)
    })

  it('is never routed into the tunnel, and nothing else is kept out of it', () => {
    const worlds = family.chain((of) =>
      fc.record({
        mesh: fc.array(prefix(of), { minLength: 1, maxLength: 4 }),
        networks: fc.array(prefix(of), { maxLength: 6 }),
        alone: fc.array(
          fc.nat(0xffff).map((bits) => address(of, bits)),
          { maxLength: 3 }
        ),
        asked: fc.nat(0xffff).map((bits) => address(of, bits)),
        isService: fc.boolean()
      })
    )
    fc.assert(
      fc.property(worlds, ({ mesh, networks, alone, asked, isService }) => {
        const disjoint = mesh.filter(
          (one, index) =>
            !mesh.some(
              (other, at) => at !== index && cidrContains(other, one) && (other !== one || at < index)
            )
        )
        const want = host(
          [cluster('east', isService ? { servicePrefixes: disjoint } : { podPrefixes: disjoint })],
          {
            networks: networks.map((destination) => ({ destination, device: 'eth0', onLink: true })),
            gateways: alone.slice(0, 1),
            resolvers: alone.slice(1, 2),
            addresses: [],
            controls: alone.slice(2)
          }
        )
        const longest = (of: readonly Cidr[]) =>
          Math.max(
            -1,
            ...of.filter((each) => cidrContains(each, asked)).map((each) => cidrToPrefix(each).length)
          )
        const route = lookup(isService ? want.vips : want.routes, asked)
        const isMesh = longest(disjoint) > longest(networks) && !alone.includes(asked)
        assert.equal(route !== undefined && route.kind === undefined, isMesh, asked)
      }),
      { numRuns: 2000 }
    )
  })

  it('is bounded, and the shortest networks count first', () => {
    const many = Array.from({ length: 5000 }, (_, index) => network(`10.2.${index >> 8}.${index & 0xff}/32`))
    const kept = ownParts([cidr('10.2.0.0/16')], { ...NO_SURROUNDINGS, networks: many }, [])
    assert.equal(kept.length, 1024)
    const nested = ownParts(
      [cidr('10.2.0.0/16')],
      { ...NO_SURROUNDINGS, networks: [...many, network('10.2.0.0/17')] },
      []
    )
    assert.deepEqual(nested, ['10.2.0.0/17'])
  })

  it('has the places for exceptions before the outer addresses of members', () => {
    const outers = Array.from({ length: 5000 }, (_, index) => ip(`10.2.${index >> 8}.${index & 0xff}`))
    const surroundings = { ...NO_SURROUNDINGS, gateways: [ip('10.2.255.1')], resolvers: [ip('10.2.255.53')] }
    const kept = ownParts([cidr('10.2.0.0/16')], surroundings, outers)
    assert.equal(kept.length, 1024)
    assert.deepEqual(kept.slice(-2), ['10.2.255.1/32', '10.2.255.53/32'])
  })

  const lan: Surroundings = {
    networks: [
      network('10.2.5.0/24'),
      network('172.17.0.0/16', 'docker0'),
      network('10.0.0.0/8', 'eth1', false)
    ],
    gateways: [ip('10.2.9.1')],
    resolvers: [ip('10.2.8.53')],
    addresses: [ip('10.2.5.20')]
  }

  it('keeps LAN, containers, default gateway and resolver, and an outer address of a member inside its own pod prefix only', () => {
    const edge = cluster('edge', {
      agents: [
        {
          origin: 'edge' as Origin,
          agent: agent('edge', {
            multiaddrs: ['/ip4/10.2.7.3/tcp/7946', '/dns4/edge.example.com/tcp/7946'],
            wireguardAddresses: ['10.2.7.4:51820' as PeerAddress, '[fd00:2::4]:51820' as PeerAddress]
          })
        }
      ]
    })
    const east = cluster('east', {
      podPrefixes: ['10.2.0.0/16', '172.16.0.0/12', 'fd00:2::/64'].map(cidr),
      agents: [
        {
          origin: 'east' as Origin,
          // A flat network: the gateway has the address of a pod.
          agent: agent('east', { multiaddrs: ['/ip4/10.2.7.9/tcp/7946', '/ip6/fd00:2::9/tcp/7946'] })
        }
      ]
    })
    const kept = host([east, edge], lan).routes.filter(({ kind }) => kind === 'throw')
    assert.deepEqual(
      kept.map(({ destination }) => destination),
      ['10.2.5.0/24', '10.2.7.9/32', '10.2.8.53/32', '10.2.9.1/32', '172.17.0.0/16', 'fd00:2::9/128']
    )
  })

  it('is neither balanced nor guarded where a service prefix covers it', () => {
    const service = (name: string, vip: string): ServiceValue => ({
      kind: 'service',
      namespace: 'shop',
      name,
      clusterIps: [ip(vip)],
      ports: [{ name: 'http', protocol: 'TCP', port: 80, appProtocol: '' }],
      headless: false,
      externalName: '',
      affinitySeconds: 0,
      publishNotReady: false
    })
    const services = new Map([
      ['shop/free', { service: service('free', '10.2.6.1'), slices: [] }],
      ['shop/taken', { service: service('taken', '10.2.5.7'), slices: [] }]
    ])
    const want = host([cluster('east', { servicePrefixes: [cidr('10.2.0.0/16')], services })], lan)
    assert.deepEqual(
      want.virtualServers.map(({ vip }) => vip),
      ['10.2.6.1']
    )
    assert.ok(want.filter?.ownNetworks?.includes(cidr('10.2.5.0/24')))
    assert.equal(lookup(want.vips, ip('10.2.5.7'))?.kind, 'throw', 'no answer to ARP for it')
  })

  it('is said in words, with what the prefix would hide', () => {
    const outers = [
      { ip: ip('10.2.7.3'), cluster: 'edge' as ClusterName, node: 'edge-gw' },
      { ip: ip('10.2.7.9'), cluster: 'east' as ClusterName, node: 'east-gw' }
    ]
    const said = (prefix: string) =>
      overlapsOf(cidr(prefix), 'east', { surroundings: lan, outers }).map(
        ({ kind, text }) => `${kind}: ${text}`
      )
    assert.deepEqual(said('10.2.0.0/16'), [
      'address: 10.2.7.3, an outer address of edge-gw of cluster edge',
      'address: 10.2.9.1, the default gateway of this host',
      'address: 10.2.8.53, a DNS server of this host',
      'network: 10.2.5.0/24 on eth0, a network of this host, which stays outside the tunnel'
    ])
    assert.deepEqual(said('10.2.5.128/25'), [
      'network: 10.2.5.0/24 on eth0, a network of this host, which loses the addresses in 10.2.5.128/25'
    ])
    assert.deepEqual(said('10.200.0.0/16'), [], 'a wide route to another router is made to have exceptions')
  })

  it('reads addresses of both families out of what a member announces, and a bounded number', () => {
    const many = Array.from({ length: 99 }, (_, index) => `/ip4/10.0.0.${index}/tcp/1`)
    assert.equal(outerOf({ multiaddrs: many, wireguardAddresses: [] }).length, 16)
    assert.deepEqual(
      outerOf({ multiaddrs: ['/ip6/fd00::1/tcp/1', '/ip4/999.1.1.1/tcp/1', ''], wireguardAddresses: [] }),
      ['fd00::1']
    )
    assert.equal(hostCidr(ip('fd00::1')), 'fd00::1/128')
  })
})
