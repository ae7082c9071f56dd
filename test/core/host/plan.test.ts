import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { bytesToIp, cidrContains, hostCidr, parseCidr } from '../../../src/core/model/cidr.ts'
import type {
  HostEndpoint,
  HostOp,
  HostState,
  VirtualServer,
  WireguardPeer
} from '../../../src/core/host/host-state.ts'
import { EMPTY_HOST, normalizeHost } from '../../../src/core/host/normalize.ts'
import { differencesOf } from '../../../src/core/host/drift.ts'
import { applyOps } from '../../../src/core/host/model-host.ts'
import type { Cidr, Ip, PeerAddress, WireguardKey } from '../../../src/core/model/values.ts'
import { plan } from '../../../src/core/host/plan.ts'

const ip = (a: number, b = 0): Ip => bytesToIp(Uint8Array.of(10, a, 0, b)) ?? assert.fail()
const prefix = (a: number): Cidr => {
  const parsed = parseCidr(`10.${a}.0.0/16`)
  return parsed.kind === 'cidr' ? parsed.cidr : assert.fail()
}
const key = (n: number) => `peer${n}` as WireguardKey
const address = (n: number) => `203.0.113.${n}:51820` as PeerAddress

/** fc.record without its null prototypes, which deepEqual tells apart. */
const plain = <T extends object>(shape: { [K in keyof T]: fc.Arbitrary<T[K]> }) =>
  fc.record<T>(shape, { noNullPrototype: true })

const subset = <T>(items: readonly T[]) => fc.subarray([...items])
const prefixes = [1, 2, 3, 4].map(prefix)

/** Each prefix belongs to one peer at most, as in a kernel. */
const peers: fc.Arbitrary<WireguardPeer[]> = fc
  .tuple(
    subset([1, 2, 3]),
    fc.array(fc.option(fc.constantFrom(1, 2, 3)), { minLength: prefixes.length, maxLength: prefixes.length }),
    fc.array(fc.option(fc.constantFrom(1, 2)), { minLength: 4, maxLength: 4 })
  )
  .map(([present, owners, addresses]) =>
    present.map((n) => ({
      publicKey: key(n),
      peerAddress: addresses[n] ? address(addresses[n]) : undefined,
      allowedIps: prefixes.filter((_, index) => owners[index] === n),
      keepaliveSeconds: 15
    }))
  )

const destined = subset(prefixes).chain((chosen) =>
  fc.tuple(
    ...chosen.map((destination) =>
      fc.constantFrom(
        { destination, source: undefined },
        { destination, source: ip(9, 1) },
        { destination, source: undefined, kind: 'throw' as const }
      )
    )
  )
)

const routes = subset(prefixes).chain((chosen) =>
  fc.tuple(
    ...chosen.map((destination) =>
      fc.constantFrom(
        { destination, source: undefined },
        { destination, source: ip(9, 1), mtu: 1328 },
        { destination, source: undefined, kind: 'throw' as const },
        { destination, source: undefined, kind: 'unreachable' as const }
      )
    )
  )
)

const virtualServers = subset([1, 2, 3]).chain((ports) =>
  fc.tuple(
    ...ports.map((port) =>
      plain({
        vip: fc.constant(ip(101, 1)),
        protocol: fc.constantFrom('TCP' as const, 'UDP' as const),
        port: fc.constant(port),
        scheduler: fc.constantFrom('rr' as const, 'mh' as const),
        affinitySeconds: fc.constantFrom(0, 60),
        realServers: subset([1, 2, 3]).map((hosts) =>
          hosts.map((host) => ({ ip: ip(1, host), port: 8080, weight: 1 }))
        )
      })
    )
  )
)

const hosts: fc.Arbitrary<HostState> = plain({
  tunnel: fc.option(
    plain({
      device: fc.constantFrom('rz0', 'rz1'),
      listenPort: fc.constantFrom(1, 2),
      mtu: fc.constantFrom(1280, 1420),
      publicKey: fc.constant(key(0))
    }),
    { nil: undefined }
  ),
  peers,
  routes,
  vips: destined,
  virtualServers,
  filter: fc.option(
    plain({
      remoteSources: subset(prefixes),
      localDestinations: subset(prefixes),
      probePort: fc.constantFrom(0, 7),
      mtu: fc.constant(1420),
      ownNetworks: subset(prefixes),
      hostEndpoints: subset<HostEndpoint>(['10.1.0.1 TCP 80', '10.1.0.1 UDP 53'])
    }),
    { nil: undefined }
  ),
  sysctls: fc.constantFrom([], [{ name: 'net.ipv4.ip_forward', value: '1' }])
})
  // Without a device there is nothing that peers and routes could be on.
  .map((state) => normalizeHost(state.tunnel ? state : { ...state, peers: [], routes: [] }))

/** What law 2 promises: `want`, but for what no operation can take back. */
function reachable(want: HostState, have: HostState): HostState {
  const sameDevice = want.tunnel?.device === have.tunnel?.device
  const old = new Map(have.peers.map((peer) => [peer.publicKey, peer.peerAddress]))
  const names = new Set(want.sysctls.map(({ name }) => name))
  return normalizeHost({
    ...want,
    peers: want.peers.map((peer) => ({
      ...peer,
      peerAddress: peer.peerAddress ?? (sameDevice ? old.get(peer.publicKey) : undefined)
    })),
    sysctls: [...want.sysctls, ...have.sysctls.filter(({ name }) => !names.has(name))]
  })
}

function includes<T>(outer: ReadonlySet<T>, inner: Iterable<T>): boolean {
  return Array.from(inner).every((item) => outer.has(item))
}

describe('a plan', () => {
  it('is empty when the host is as it should be', () => {
    fc.assert(fc.property(hosts, (host) => assert.deepEqual(plan(host, host), [])))
  })

  it('has one difference in words for each operation, which names what differs', () => {
    fc.assert(
      fc.property(hosts, hosts, (want, have) => {
        const ops = plan(want, have)
        const found = differencesOf(ops, have)
        assert.deepEqual(
          found.map(({ op }) => op),
          ops
        )
        for (const { op, text } of found) {
          assert.doesNotMatch(text, /undefined|\[object/)
          if (op.kind === 'addRoute') assert.ok(text.includes(op.route.destination))
          if (op.kind === 'setPeer') assert.ok(text.includes(op.peer.publicKey))
        }
      }),
      { numRuns: 300 }
    )
  })

  it('leads to the host that is wanted', () => {
    fc.assert(
      fc.property(hosts, hosts, (want, have) => {
        const after = applyOps(have, plan(want, have))
        assert.deepEqual(after, reachable(want, have))
        assert.deepEqual(plan(want, after), [])
      }),
      { numRuns: 500 }
    )
  })

  it('cut short anywhere converges with the next pass', () => {
    fc.assert(
      fc.property(hosts, hosts, fc.nat(60), (want, have, cut) => {
        const halfway = applyOps(have, plan(want, have).slice(0, cut))
        const after = applyOps(halfway, plan(want, halfway))
        assert.deepEqual(plan(want, after), [])
        assert.deepEqual(after.virtualServers, want.virtualServers)
        assert.deepEqual(
          after.peers.map(({ allowedIps }) => allowedIps),
          want.peers.map(({ allowedIps }) => allowedIps)
        )
      }),
      { numRuns: 500 }
    )
  })

  it('never leaves a prefix without an owner while it moves between peers', () => {
    const owned = (state: HostState) => new Set(state.peers.flatMap(({ allowedIps }) => allowedIps))
    fc.assert(
      fc.property(peers, peers, (wantPeers, havePeers) => {
        const tunnel = { device: 'rz0', listenPort: 1, mtu: 1420, publicKey: key(0) }
        const want = normalizeHost({ ...EMPTY_HOST, tunnel, peers: wantPeers })
        const have = normalizeHost({ ...EMPTY_HOST, tunnel, peers: havePeers })
        const kept = [...owned(want)].filter((cidr) => owned(have).has(cidr))
        const ops = plan(want, have)
        for (let cut = 0; cut <= ops.length; cut += 1) {
          assert.ok(includes(owned(applyOps(have, ops.slice(0, cut))), kept), `after ${cut} operations`)
        }
      }),
      { numRuns: 1000 }
    )
  })

  it('before the first complete snapshot takes nothing away', () => {
    fc.assert(
      fc.property(hosts, hosts, (want, have) => {
        fc.pre(want.tunnel === undefined || want.tunnel.device === have.tunnel?.device)
        const ops = plan(want, have, { keeps: 'all' })
        assert.deepEqual(
          ops.filter(({ kind }) => kind.startsWith('remove')),
          []
        )
        const after = applyOps(have, ops)
        const allowed = (state: HostState) => new Set(state.peers.flatMap(({ allowedIps }) => allowedIps))
        assert.ok(includes(allowed(after), allowed(have)))
        const backends = (state: HostState) =>
          new Set(
            state.virtualServers.flatMap((server) =>
              server.realServers.map((real) => `${server.protocol}${server.port} ${real.ip}`)
            )
          )
        assert.ok(includes(backends(after), backends(have)))
        assert.ok(includes(backends(after), backends(want)))
        assert.deepEqual(plan(want, after, { keeps: 'all' }), [])
      }),
      { numRuns: 500 }
    )
  })

  it('keeps in the prefixes of an incomplete catalogue what it has, and deletes all else', () => {
    fc.assert(
      fc.property(hosts, hosts, fc.boolean(), (want, have, ofOne) => {
        fc.pre(want.tunnel === undefined || want.tunnel.device === have.tunnel?.device)
        const [one] = have.peers.flatMap(({ allowedIps }) => allowedIps)
        const keeps = ofOne && one !== undefined ? [one] : ['192.0.2.0/24' as Cidr]
        const after = applyOps(have, plan(want, have, { keeps }))
        const allowed = (state: HostState) => new Set(state.peers.flatMap(({ allowedIps }) => allowedIps))
        const [kept, wanted] = [allowed(after), allowed(want)]
        if (keeps[0] === one && one !== undefined) assert.ok(kept.has(one))
        const isIn = (cidr: Cidr) => keeps.some((prefix) => cidrContains(prefix, cidr))
        for (const cidr of kept) assert.ok(wanted.has(cidr) || isIn(cidr), cidr)
        for (const { destination } of after.routes)
          assert.ok(want.routes.some((route) => route.destination === destination) || isIn(destination))
        assert.deepEqual(plan(want, after, { keeps }), [])
      }),
      { numRuns: 500 }
    )
  })

  it('builds from the link to the VIP, and takes down in reverse', () => {
    const full = normalizeHost({
      tunnel: { device: 'rz0', listenPort: 1, mtu: 1420, publicKey: key(0) },
      peers: [{ publicKey: key(1), peerAddress: address(1), allowedIps: [prefix(1)], keepaliveSeconds: 15 }],
      routes: [{ destination: prefix(1), source: undefined }],
      vips: [{ destination: prefix(101), source: undefined }],
      virtualServers: [server(1, 2)],
      filter: { remoteSources: [prefix(1)], localDestinations: [], probePort: 0, mtu: 1420 },
      sysctls: [{ name: 'net.ipv4.ip_forward', value: '1' }]
    })
    const kinds = (ops: readonly HostOp[]) => ops.map(({ kind }) => kind)
    assert.deepEqual(kinds(plan(full, EMPTY_HOST)), [
      'setTunnel',
      'setFilter',
      'setSysctl',
      'setPeer',
      'addRoute',
      'setVirtualServer',
      'addVip'
    ])
    assert.deepEqual(kinds(plan(EMPTY_HOST, full)), [
      'removeVip',
      'removeVirtualServer',
      'removeRoute',
      'removePeer',
      'removeFilter',
      'removeTunnel'
    ])
  })

  it('does not mind another order of the same content', () => {
    const want = normalizeHost({ ...EMPTY_HOST, virtualServers: [server(1, 3)] })
    const [only] = want.virtualServers
    assert.ok(only)
    const have = { ...want, virtualServers: [{ ...only, realServers: only.realServers.toReversed() }] }
    assert.deepEqual(plan(want, have), [])
  })

  it('of one change among 10,000 virtual servers looks at that one only', () => {
    let looks = 0
    const watched = Array.from({ length: 10_000 }, (_, index) => {
      const get = (of: VirtualServer, field: keyof VirtualServer) => {
        looks++
        return of[field]
      }
      return new Proxy(server(index, 10), { get })
    })
    const have = { ...EMPTY_HOST, virtualServers: watched }
    const want = { ...EMPTY_HOST, virtualServers: watched.with(5000, server(5000, 9)) }
    assert.equal(plan(want, have).length, 1)
    assert.ok(looks < 50, `${looks} fields were looked at`)
    assert.deepEqual(plan(have, have), [])
  })
})

function server(index: number, backends: number): VirtualServer {
  const vip = bytesToIp(Uint8Array.of(10, 101, index >> 8, index & 0xff)) ?? assert.fail()
  const realServers = Array.from({ length: backends }, (_, host) => ({
    ip: ip(1, host + 1),
    port: 8080,
    weight: 1
  }))
  return { vip, protocol: 'TCP', port: 80, scheduler: 'rr', affinitySeconds: 0, realServers }
}

describe('the model host', () => {
  it('gives a prefix one owner, as WireGuard does', () => {
    const peer = (n: number, ...allowedIps: Cidr[]): HostOp => ({
      kind: 'setPeer',
      peer: { publicKey: key(n), peerAddress: undefined, allowedIps, keepaliveSeconds: 0 }
    })
    const after = applyOps(EMPTY_HOST, [peer(1, prefix(1), hostCidr(ip(2, 1))), peer(2, prefix(1))])
    assert.deepEqual(
      after.peers.map(({ allowedIps }) => allowedIps),
      [['10.2.0.1/32'], ['10.1.0.0/16']]
    )
  })
})
