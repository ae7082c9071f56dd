import assert from 'node:assert/strict'
import { slices } from '../../../src/core/host/host-ops.ts'
import type { HostOp, VirtualServer } from '../../../src/core/host/host-state.ts'
import { EMPTY_HOST, normalizeHost } from '../../../src/core/host/normalize.ts'
import type { Cidr, ClusterName, Ip, PeerAddress, WireguardKey } from '../../../src/core/model/values.ts'
import { clustersOfOps } from '../../../src/core/host/op-clusters.ts'
import { plan } from '../../../src/core/host/plan.ts'

const server = (vip: string, port: number, backends: number): VirtualServer => ({
  vip: vip as Ip,
  protocol: 'TCP',
  port,
  scheduler: 'rr',
  affinitySeconds: 0,
  realServers: Array.from({ length: backends }, (_, index) => ({
    ip: `10.9.${index >> 8}.${index & 255}` as Ip,
    port: 80,
    weight: 1
  }))
})

describe('the order of a pass', () => {
  const cluster = (n: number) => ({
    agents: [{ agent: { wireguardKey: `key${n}` } }],
    name: `c${n}`,
    podPrefixes: [`10.${n}.0.0/16`],
    servicePrefixes: [`10.10${n}.0.0/16`]
  })
  const view = { clusters: new Map([1, 2, 3].map((n) => [`c${n}`, cluster(n)])) }
  const clusterOf = clustersOfOps(view as unknown as Parameters<typeof clustersOfOps>[0])
  const want = normalizeHost({
    ...EMPTY_HOST,
    peers: [1, 2].map((n) => ({
      publicKey: `key${n}` as WireguardKey,
      peerAddress: '192.0.2.1:1' as PeerAddress,
      allowedIps: [],
      keepaliveSeconds: 0
    })),
    routes: [1, 2].map((n) => ({ destination: `10.${n}.0.0/16` as Cidr, source: undefined })),
    vips: [1, 2].map((n) => ({ destination: `10.10${n}.0.0/16` as Cidr, source: undefined })),
    virtualServers: [
      ...Array.from({ length: 300 }, (_, port) => server('10.101.0.1', port + 1, 100)),
      server('10.102.0.1', 80, 1)
    ]
  })
  const gone = normalizeHost({
    ...EMPTY_HOST,
    peers: [
      { publicKey: 'key9' as WireguardKey, peerAddress: undefined, allowedIps: [], keepaliveSeconds: 0 }
    ],
    virtualServers: [server('10.109.0.1', 80, 1)],
    vips: [{ destination: '10.109.0.0/16' as Cidr, source: undefined }]
  })
  const cut = slices(plan(want, gone), clusterOf)

  it('gives every operation to its cluster', () => {
    for (const op of plan(want, EMPTY_HOST)) assert.match(clusterOf(op) ?? '', /^c[12]$/, op.kind)
    for (const op of plan(EMPTY_HOST, gone)) assert.equal(clusterOf(op), undefined)
  })

  it('has every operation once', () => {
    const all = plan(want, gone)
    const sorted = (ops: readonly HostOp[]) => ops.map((op) => JSON.stringify(op)).sort()
    assert.deepEqual(sorted(cut.flatMap(({ ops }) => ops)), sorted(all))
  })

  it('comes to small clusters and to removals before a large cluster, and cuts the large one', () => {
    const order = cut.map(({ cluster: name, ops }) => name ?? ops[0]?.kind)
    assert.deepEqual(order.slice(0, 3), ['setPeer', 'c2', 'removeVip'])
    assert.ok(order.slice(3).every((name) => name === 'c1'))
    assert.ok(order.length > 10)
  })

  it('keeps peers and routes before service addresses, and a cluster’s services before its prefix', () => {
    const flat = cut.flatMap(({ ops }) => ops)
    const last = (test: (op: HostOp) => boolean) => flat.findLastIndex(test)
    const first = (test: (op: HostOp) => boolean) => flat.findIndex(test)
    assert.ok(last((op) => op.kind === 'addRoute') < first((op) => op.kind === 'addVip'))
    const large = (op: HostOp) => clusterOf(op) === ('c1' as ClusterName)
    assert.ok(
      last((op) => large(op) && op.kind === 'setVirtualServer') <
        first((op) => large(op) && op.kind === 'addVip')
    )
    assert.ok(last((op) => op.kind === 'setPeer') < first((op) => op.kind === 'removePeer'))
  })
})
