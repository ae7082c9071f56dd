import assert from 'node:assert/strict'
import fc from 'fast-check'
import { cidrOverlaps } from '../../../src/core/model/cidr.ts'
import { compareCertificateOrder, settle, unionOf, type ClusterGrant } from '../../../src/core/trust/order.ts'
import { cidr, clusterName } from './fixtures.ts'

function grant(
  name: string,
  rank: { readonly invite?: number; readonly cluster?: number; readonly key?: number },
  pods: readonly string[] = [],
  services: readonly string[] = []
): ClusterGrant {
  return {
    cluster: clusterName(name),
    clusterKey: Uint8Array.of(rank.key ?? 0),
    order: {
      invite: rank.invite === undefined ? undefined : { notBefore: rank.invite, tieBreak: Uint8Array.of(0) },
      cluster: { notBefore: rank.cluster ?? 0, tieBreak: Uint8Array.of(rank.key ?? 0) }
    },
    podPrefixes: pods.map(cidr),
    servicePrefixes: services.map(cidr)
  }
}

describe('certificate order', () => {
  it('is founder, then invite, then cluster certificate', () => {
    const inOrder = [
      grant('a', { cluster: 99 }),
      grant('b', { invite: 1, cluster: 50 }),
      grant('c', { invite: 2, cluster: 3, key: 1 }),
      grant('d', { invite: 2, cluster: 3, key: 2 }),
      grant('e', { invite: 2, cluster: 4, key: 0 })
    ]
    const sorted = inOrder.toReversed().sort((a, b) => compareCertificateOrder(a.order, b.order))
    assert.deepEqual(sorted, inOrder)
  })
})

describe('settle', () => {
  it('gives an overlapping prefix to the older certificate and lists the loss', () => {
    const west = grant('west', {}, ['10.1.0.0/16'])
    const east = grant('east', { invite: 1 }, ['10.1.128.0/17', '10.2.0.0/16'], ['10.1.0.0/20'])
    const settled = settle([east, west])
    assert.deepEqual(settled.get(clusterName('west'))?.podPrefixes, ['10.1.0.0/16'])
    assert.deepEqual(settled.get(clusterName('east'))?.podPrefixes, ['10.2.0.0/16'])
    assert.deepEqual(settled.get(clusterName('east'))?.conflicts, [
      { what: 'podPrefix', value: '10.1.128.0/17', winner: 'west' },
      { what: 'servicePrefix', value: '10.1.0.0/20', winner: 'west' }
    ])
  })

  it('leaves a cluster out whose name is taken, so that its prefixes are free', () => {
    const first = grant('east', { invite: 1, key: 1 }, ['10.1.0.0/16'])
    const second = grant('east', { invite: 2, key: 2 }, ['10.2.0.0/16'])
    const third = grant('west', { invite: 3 }, ['10.2.0.0/16'])
    const settled = settle([third, second, first])
    assert.equal(settled.get(clusterName('east'))?.grant, first)
    assert.deepEqual(settled.get(clusterName('east'))?.conflicts, [
      { what: 'name', value: 'east', winner: 'east' }
    ])
    assert.deepEqual(settled.get(clusterName('west'))?.podPrefixes, ['10.2.0.0/16'])
  })

  const prefix = fc
    .constantFrom(
      '10.0.0.0/14',
      '10.1.0.0/16',
      '10.1.0.0/18',
      '10.1.64.0/18',
      '10.2.0.0/15',
      '10.3.0.0/16',
      'fd00::/64'
    )
    .map(cidr)
  const grants = fc.array(
    fc.record({
      name: fc.constantFrom('a', 'b', 'c', 'd'),
      invite: fc.nat(4),
      pods: fc.array(prefix, { maxLength: 3 })
    }),
    { maxLength: 8 }
  )
  it('never lets two prefixes overlap, and does not depend on the order of its input', () => {
    fc.assert(
      fc.property(grants, fc.nat(), (granted, turn) => {
        const list = granted.map(({ name, invite, pods }, key) => ({
          ...grant(name, { invite, key }),
          podPrefixes: unionOf([pods])
        }))
        const settled = settle(list)
        const turned = list
          .map((_, index) => list[(index + turn) % list.length])
          .filter((one) => one !== undefined)
        assert.deepEqual(settle(turned), settled)
        assert.deepEqual(settle(list.toReversed()), settled)
        const all = [...settled.values()].flatMap((one) => one.podPrefixes)
        for (const [index, left] of all.entries()) {
          for (const right of all.slice(index + 1)) assert.ok(!cidrOverlaps(left, right), `${left} ${right}`)
        }
      }),
      { numRuns: 500 }
    )
  })
})
